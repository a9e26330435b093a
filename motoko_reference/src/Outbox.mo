/// Messages that wait for agents, which fetch and trim them.
///
/// An entry names its flow and holds no bytes of its own: the message is made from the stored flow
/// when it is read.

import Map "mo:core/Map";
import Nat64 "mo:core/Nat64";
import Principal "mo:core/Principal";
import Order "Order";
import Types "Types";

module {
  type Entry = { kind : Types.Kind; msg_id : Nat; size : Nat };

  public type Box = {
    entries : Map.Map<Nat64, Entry>;
    places : Map.Map<(Types.Kind, Nat), Nat64>; // one entry for each flow and kind
    var bytes : Nat;
  };

  /// `next` is never used again, also across upgrades.
  public type State = { boxes : Map.Map<Principal, Box>; var next : Nat64 };

  public func empty() : State { { boxes = Map.empty(); var next = 1 } };

  // What an entry takes beside its payload: ids, hash, tags and framing, generously.
  let overhead : Nat = 64;

  public func sizeOf(message : Types.Message) : Nat {
    overhead + (switch message { case (#NEW m) m.payload.size(); case (#ACK m) Types.size(m.payload); case (#FIN _) 0 });
  };

  /// Puts a message in, or leaves the one that waits for the same flow and kind. False: it is full.
  public func put(state : State, agent : Principal, message : Types.Message, maxMessages : Nat, maxBytes : Nat) : Bool {
    let box = switch (Map.get(state.boxes, Principal.compare, agent)) {
      case (?box) box;
      case null {
        let box : Box = { entries = Map.empty(); places = Map.empty(); var bytes = 0 };
        Map.add(state.boxes, Principal.compare, agent, box);
        box;
      };
    };
    let (kind, msg_id) = (Types.kindOf(message), Types.idOf(message));
    if (Map.containsKey(box.places, Order.kindId, (kind, msg_id))) return true;
    let size = sizeOf(message);
    if (Map.size(box.entries) >= maxMessages or box.bytes + size > maxBytes) return false;
    Map.add(box.entries, Nat64.compare, state.next, { kind; msg_id; size });
    Map.add(box.places, Order.kindId, (kind, msg_id), state.next);
    box.bytes += size;
    state.next += 1;
    true;
  };

  func drop(box : Box, seq : Nat64) {
    switch (Map.take(box.entries, Nat64.compare, seq)) {
      case (?entry) {
        Map.remove(box.places, Order.kindId, (entry.kind, entry.msg_id));
        box.bytes -= entry.size;
      };
      case null {};
    };
  };

  func sweep(state : State, agent : Principal, box : Box) {
    if (Map.isEmpty(box.entries)) Map.remove(state.boxes, Principal.compare, agent);
  };

  /// Takes out the message of this flow and kind, if it waits.
  public func remove(state : State, agent : Principal, kind : Types.Kind, msg_id : Nat) {
    switch (Map.get(state.boxes, Principal.compare, agent)) {
      case (?box) switch (Map.get(box.places, Order.kindId, (kind, msg_id))) {
        case (?seq) { drop(box, seq); sweep(state, agent, box) };
        case null {};
      };
      case null {};
    };
  };

  /// Removes the agent's entries up to and including `seq`.
  public func trim(state : State, agent : Principal, seq : Nat64) {
    switch (Map.get(state.boxes, Principal.compare, agent)) {
      case (?box) {
        label old loop {
          switch (Map.minEntry(box.entries)) {
            case (?(first, _)) if (first <= seq) drop(box, first) else break old;
            case null break old;
          };
        };
        sweep(state, agent, box);
      };
      case null {};
    };
  };

  /// The agent's entries after `after`, oldest first.
  public func waiting(state : State, agent : Principal, after : ?Nat64) : { next : () -> ?(Nat64, Entry) } {
    switch (Map.get(state.boxes, Principal.compare, agent)) {
      case (?box) switch after {
        case (?seq) Map.entriesFrom(box.entries, Nat64.compare, if (seq == 0xFFFF_FFFF_FFFF_FFFF) seq else seq + 1);
        case null Map.entries(box.entries);
      };
      case null { { next = func() : ?(Nat64, Entry) = null } };
    };
  };

  public func messages(state : State) : Nat {
    var n = 0;
    for (box in Map.values(state.boxes)) n += Map.size(box.entries);
    n;
  };
};
