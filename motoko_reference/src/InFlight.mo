/// How many of our one-way calls hold a slot in a peer's queue.
///
/// Nobody tells us when a one-way call is over, so a call counts until its bounded wait must have
/// ended, or until the message that answers it shows that it arrived.

import Array "mo:core/Array";
import Map "mo:core/Map";
import Nat64 "mo:core/Nat64";
import Principal "mo:core/Principal";
import Set "mo:core/Set";
import Order "Order";
import Types "Types";

module {
  public type State = {
    slots : Map.Map<Order.Slot, [Nat64]>; // when each call of this message is over
    ends : Set.Set<(Nat64, Order.Slot)>;
    counts : Map.Map<Principal, Nat>;
  };

  public func empty() : State {
    { slots = Map.empty(); ends = Set.empty(); counts = Map.empty() };
  };

  public func count(state : State, peer : Principal) : Nat {
    switch (Map.get(state.counts, Principal.compare, peer)) { case (?n) n; case null 0 };
  };

  public func size(state : State) : Nat { Set.size(state.ends) };

  func change(state : State, peer : Principal, more : Nat, less : Nat) {
    let n = count(state, peer) + more;
    if (n <= less) Map.remove(state.counts, Principal.compare, peer) else Map.add(state.counts, Principal.compare, peer, n - less : Nat);
  };

  /// A call of this message, which is over at `until` at the latest.
  public func add(state : State, peer : Principal, kind : Types.Kind, id : Nat, until : Nat64) {
    let slot = (peer, kind, id);
    let others = switch (Map.get(state.slots, Order.slot, slot)) { case (?all) all; case null [] };
    var end = until;
    while (Set.contains(state.ends, Order.timedSlot, (end, slot))) end += 1;
    Set.add(state.ends, Order.timedSlot, (end, slot));
    Map.add(state.slots, Order.slot, slot, Array.concat(others, [end]));
    change(state, peer, 1, 0);
  };

  /// The message was answered, so all its calls are over.
  public func release(state : State, peer : Principal, kind : Types.Kind, id : Nat) {
    let slot = (peer, kind, id);
    switch (Map.take(state.slots, Order.slot, slot)) {
      case (?all) {
        for (end in all.values()) Set.remove(state.ends, Order.timedSlot, (end, slot));
        change(state, peer, 0, all.size());
      };
      case null {};
    };
  };

  /// Drops what is over at `now`.
  public func expire(state : State, now : Nat64) {
    label old loop {
      switch (Set.min(state.ends)) {
        case (?(end, slot)) {
          if (end > now) break old;
          Set.remove(state.ends, Order.timedSlot, (end, slot));
          switch (Map.take(state.slots, Order.slot, slot)) {
            case (?all) {
              let rest = Array.filter<Nat64>(all, func other = other != end);
              if (rest.size() > 0) Map.add(state.slots, Order.slot, slot, rest);
            };
            case null {};
          };
          change(state, slot.0, 0, 1);
        };
        case null break old;
      };
    };
  };
};
