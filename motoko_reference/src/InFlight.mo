/// How many of our one-way calls hold a slot in a peer's queue.
///
/// Nobody tells us when a one-way call is over, so a call counts until its bounded wait must have
/// ended, or until every message that it carried was answered. A batch is one call.

import Array "mo:core/Array";
import Map "mo:core/Map";
import Nat "mo:core/Nat";
import Nat64 "mo:core/Nat64";
import Principal "mo:core/Principal";
import Set "mo:core/Set";
import Order "Order";
import Types "Types";

module {
  type Call = { peer : Principal; until : Nat64; slots : [Order.Slot]; var open : Nat };

  public type State = {
    calls : Map.Map<Nat, Call>;
    bySlot : Map.Map<Order.Slot, [Nat]>; // the calls that carry a message
    ends : Set.Set<(Nat64, Nat)>;
    counts : Map.Map<Principal, Nat>;
    var next : Nat;
  };

  // More than one message adds, so that what is over never piles up.
  let atOnce = 200;

  public func empty() : State {
    { calls = Map.empty(); bySlot = Map.empty(); ends = Set.empty(); counts = Map.empty(); var next = 0 };
  };

  public func count(state : State, peer : Principal) : Nat {
    switch (Map.get(state.counts, Principal.compare, peer)) { case (?n) n; case null 0 };
  };

  public func size(state : State) : Nat { Map.size(state.calls) };

  /// A call that carries these messages of one peer, over at `until` at the latest.
  public func add(state : State, peer : Principal, messages : [(Types.Kind, Nat)], until : Nat64) {
    let token = state.next;
    state.next += 1;
    let slots = Array.map<(Types.Kind, Nat), Order.Slot>(messages, func((kind, id)) = (peer, kind, id));
    Map.add(state.calls, Nat.compare, token, { peer; until; slots; var open = slots.size() });
    Set.add(state.ends, Order.timedToken, (until, token));
    for (slot in slots.values()) {
      let others = switch (Map.get(state.bySlot, Order.slot, slot)) { case (?tokens) tokens; case null [] };
      Map.add(state.bySlot, Order.slot, slot, Array.concat(others, [token]));
    };
    Map.add(state.counts, Principal.compare, peer, count(state, peer) + 1);
  };

  /// The message was answered, so no call carries it any more.
  public func release(state : State, peer : Principal, kind : Types.Kind, id : Nat) {
    switch (Map.take(state.bySlot, Order.slot, (peer, kind, id))) {
      case (?tokens) for (token in tokens.values()) switch (Map.get(state.calls, Nat.compare, token)) {
        case (?call) {
          if (call.open <= 1) drop(state, token, call) else call.open -= 1;
        };
        case null {};
      };
      case null {};
    };
  };

  func drop(state : State, token : Nat, call : Call) {
    Map.remove(state.calls, Nat.compare, token);
    Set.remove(state.ends, Order.timedToken, (call.until, token));
    for (slot in call.slots.values()) switch (Map.take(state.bySlot, Order.slot, slot)) {
      case (?tokens) {
        let rest = Array.filter<Nat>(tokens, func other = other != token);
        if (rest.size() > 0) Map.add(state.bySlot, Order.slot, slot, rest);
      };
      case null {};
    };
    let n = count(state, call.peer);
    if (n <= 1) Map.remove(state.counts, Principal.compare, call.peer) else Map.add(state.counts, Principal.compare, call.peer, n - 1 : Nat);
  };

  /// Drops what is over at `now`, the oldest of it: no message pays for what many others left. What is
  /// left over still counts, until the next message.
  public func expire(state : State, now : Nat64) {
    label old for (_ in Nat.range(0, atOnce)) {
      switch (Set.min(state.ends)) {
        case (?(until, token)) {
          if (until > now) break old;
          switch (Map.get(state.calls, Nat.compare, token)) {
            case (?call) drop(state, token, call);
            case null Set.remove(state.ends, Order.timedToken, (until, token));
          };
        };
        case null break old;
      };
    };
  };
};
