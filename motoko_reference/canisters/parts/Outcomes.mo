/// How the flows of a reference canister ended, and how often its handler ran: what candid/reference.did
/// reports. An entry is kept as long as the library keeps the flow.

import Map "mo:core/Map";
import Nat "mo:core/Nat";
import Principal "mo:core/Principal";
import Order "mo:core/Order";
import AsyncFlow "mo:async-flow";

module {
  public type Outcome = {
    #answered : { response : ?Blob; late : Bool };
    #failed : AsyncFlow.Failure;
  };

  public type Outcomes = Map.Map<Nat, Outcome>;

  /// Takes what a sender's flow tells.
  public func take(outcomes : Outcomes, flows : AsyncFlow.State, told : AsyncFlow.Tell) {
    switch (told.what, told.failure) {
      case (#answered, _) Map.add(outcomes, Nat.compare, told.msg_id, #answered { response = told.response; late = false });
      case (#late, _) Map.add(outcomes, Nat.compare, told.msg_id, #answered { response = told.response; late = true });
      case (#failed, ?failure) Map.add(outcomes, Nat.compare, told.msg_id, #failed failure);
      case _ {};
    };
    // Ids rise with time, so the first entries are the oldest. Two for one: it never grows beyond.
    for (_ in [1, 2].values()) switch (Map.minEntry(outcomes)) {
      case (?(id, _)) if (not AsyncFlow.opened(flows, id)) Map.remove(outcomes, Nat.compare, id);
      case null {};
    };
  };

  type Key = (Principal, Nat);

  public type Runs = { byKey : Map.Map<Key, Nat>; byAge : Map.Map<Nat, Key>; var next : Nat };

  public func runs() : Runs { { byKey = Map.empty(); byAge = Map.empty(); var next = 0 } };

  func compare(a : Key, b : Key) : Order.Order {
    switch (Principal.compare(a.0, b.0)) { case (#equal) Nat.compare(a.1, b.1); case other other };
  };

  /// Counts one run of the handler.
  public func ran(runs : Runs, flows : AsyncFlow.State, request : AsyncFlow.Request) {
    let key = (request.sender, request.msg_id);
    switch (Map.get(runs.byKey, compare, key)) {
      case (?times) Map.add(runs.byKey, compare, key, times + 1);
      case null {
        Map.add(runs.byKey, compare, key, 1);
        Map.add(runs.byAge, Nat.compare, runs.next, key);
        runs.next += 1;
      };
    };
    for (_ in [1, 2].values()) switch (Map.minEntry(runs.byAge)) {
      case (?(age, old)) if (compare(old, key) != #equal and not AsyncFlow.received(flows, old.0, old.1)) {
        Map.remove(runs.byAge, Nat.compare, age);
        Map.remove(runs.byKey, compare, old);
      };
      case null {};
    };
  };

  public func handled(runs : Runs, sender : Principal, id : Nat) : Nat {
    switch (Map.get(runs.byKey, compare, (sender, id))) { case (?times) times; case null 0 };
  };
};
