/// Every layout of the stored state that this library has had, and how each becomes the next.
///
/// An actor keeps its flows in one stable variable of type `Kept`. A new layout is a new case, which
/// Motoko's check of stable variables accepts; `upToDate` then turns an older case into the present.

import Map "mo:core/Map";
import Set "mo:core/Set";
import Access "Access";
import InFlight "InFlight";
import Order "Order";
import Outbox "Outbox";
import Peers "Peers";
import Policy "Policy";
import Store "Store";
import Types "Types";
import Ulid "Ulid";

module {
  public type Kept = { #v1 : V1; #v2 : Store.State };

  /// The first layout: no settings for single peers, calls in flight by message alone.
  public type V1 = {
    var policy : Policy.Policy;
    access : Access.State;
    senders : Map.Map<Nat, Types.SenderFlow>;
    receivers : Map.Map<(Principal, Nat), Types.ReceiverFlow>;
    due : Set.Set<(Nat64, Types.Key)>;
    postponed : Map.Map<Types.Key, Nat64>;
    var batch : Nat;
    attention : Map.Map<Types.Key, Nat>;
    oldest : Set.Set<(Nat, Types.Key)>;
    var start : Nat;
    var started : Nat64;
    sending : Store.Account;
    receiving : Store.Account;
    calls : {
      slots : Map.Map<Order.Slot, [Nat64]>;
      ends : Set.Set<(Nat64, Order.Slot)>;
      counts : Map.Map<Principal, Nat>;
    };
    outbox : Outbox.State;
    paid : Map.Map<(Principal, Nat), Nat64>;
    paidEnds : Set.Set<(Nat64, Types.Key)>;
    clock : Store.Clock;
    ids : Ulid.State;
    counters : Map.Map<Text, Nat64>;
    history : Map.Map<Nat64, Types.Change>;
    var nextChange : Nat64;
    var finSecond : Nat64;
    var finCount : Nat32;
  };

  public func empty() : Kept { #v2(Store.empty()) };

  /// What was kept, in the present layout: to be assigned to the stable variable at every start.
  public func upToDate(kept : Kept) : Kept { #v2(current(kept)) };

  public func current(kept : Kept) : Store.State {
    switch kept { case (#v2 state) state; case (#v1 state) fromV1(state) };
  };

  /// The calls in flight are not taken over: they ended with the wait that bounds them.
  func fromV1(old : V1) : Store.State {
    {
      old with
      var policy = old.policy;
      var batch = old.batch;
      var start = old.start;
      var started = old.started;
      var nextChange = old.nextChange;
      var finSecond = old.finSecond;
      var finCount = old.finCount;
      peers = Peers.empty();
      calls = InFlight.empty();
    };
  };
};
