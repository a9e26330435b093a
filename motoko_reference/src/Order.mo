/// Orders of the keys that the store's maps and sets use.

import Nat "mo:core/Nat";
import Nat64 "mo:core/Nat64";
import Order "mo:core/Order";
import Principal "mo:core/Principal";
import Types "Types";

module {
  public func flow(a : Types.Key, b : Types.Key) : Order.Order {
    switch (a, b) {
      case (#sender x, #sender y) Nat.compare(x, y);
      case (#receiver x, #receiver y) peerId(x, y);
      case (#sender _, #receiver _) #less;
      case (#receiver _, #sender _) #greater;
    };
  };

  public func peerId(a : (Principal, Nat), b : (Principal, Nat)) : Order.Order {
    switch (Principal.compare(a.0, b.0)) {
      case (#equal) Nat.compare(a.1, b.1);
      case other other;
    };
  };

  public func timed(a : (Nat64, Types.Key), b : (Nat64, Types.Key)) : Order.Order {
    switch (Nat64.compare(a.0, b.0)) { case (#equal) flow(a.1, b.1); case other other };
  };

  public func aged(a : (Nat, Types.Key), b : (Nat, Types.Key)) : Order.Order {
    switch (Nat.compare(a.0, b.0)) { case (#equal) flow(a.1, b.1); case other other };
  };

  func rank(kind : Types.Kind) : Nat { switch kind { case (#new) 0; case (#ack) 1; case (#fin) 2 } };

  public func kindId(a : (Types.Kind, Nat), b : (Types.Kind, Nat)) : Order.Order {
    switch (Nat.compare(rank(a.0), rank(b.0))) {
      case (#equal) Nat.compare(a.1, b.1);
      case other other;
    };
  };

  public type Slot = (Principal, Types.Kind, Nat);

  public func slot(a : Slot, b : Slot) : Order.Order {
    switch (Principal.compare(a.0, b.0)) {
      case (#equal) kindId((a.1, a.2), (b.1, b.2));
      case other other;
    };
  };

  public func timedToken(a : (Nat64, Nat), b : (Nat64, Nat)) : Order.Order {
    switch (Nat64.compare(a.0, b.0)) { case (#equal) Nat.compare(a.1, b.1); case other other };
  };
};
