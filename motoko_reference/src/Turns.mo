/// Which due flows one tick works on, and in which order they get room.

import Array "mo:core/Array";
import List "mo:core/List";
import Map "mo:core/Map";
import Nat "mo:core/Nat";
import Order_ "mo:core/Order";
import Principal "mo:core/Principal";
import Set "mo:core/Set";
import Order "Order";
import Store "Store";
import Types "Types";

module {
  /// A due time and the flow it belongs to.
  public type Due = (Nat64, Types.Key);

  // The most that one tick works on, and may transmit.
  public let tickFlows = 100;
  public let tickBytes = 1_900_000; // or hand to the application

  /// What is due at `now`: FIN before ACK before repeated NEW before new flows, within each fairly
  /// between peers; at most `most` flows.
  public func next(s : Store.State, now : Nat64, most : Nat) : [Due] {
    let found = List.empty<Due>();
    var bytes = 0;
    label fill for (due in Set.values(s.due)) {
      if (due.0 > now or List.size(found) >= most) break fill;
      bytes += bulk(s, due.1, now);
      if (not List.isEmpty(found) and bytes > tickBytes) break fill;
      List.add(found, due);
    };
    let turns = List.empty<Due>();
    for (rank in Nat.range(0, 5)) {
      let mine = List.filter<Due>(found, func due = urgency(s, due.1, now) == rank);
      List.addAll(turns, fairly(s, mine).values());
    };
    List.toArray(turns);
  };

  /// Round and round between the peers.
  func fairly(s : Store.State, dues : List.List<Due>) : [Due] {
    if (List.size(dues) < 2) return List.toArray(dues);
    let lanes = Map.empty<Principal, Nat>();
    let placed = List.map<Due, (Nat, Due)>(
      dues,
      func due {
        let peer = peerOf(s, due.1);
        let lap = switch (Map.get(lanes, Principal.compare, peer)) { case (?n) n; case null 0 };
        Map.add(lanes, Principal.compare, peer, lap + 1);
        (lap, due);
      },
    );
    // The sort is stable, so that within a lap the earlier due comes first.
    let sorted = Array.sort<(Nat, Due)>(List.toArray(placed), func(a, b) : Order_.Order = Nat.compare(a.0, b.0));
    Array.map<(Nat, Due), Due>(sorted, func((_, due)) = due);
  };

  func peerOf(s : Store.State, key : Types.Key) : Principal {
    switch key {
      case (#receiver(sender, _)) sender;
      case (#sender id) switch (Map.get(s.senders, Nat.compare, id)) { case (?f) f.peer; case null Principal.anonymous() };
    };
  };

  /// What the flow carries, in bytes: its handler or its listener is handed most of it.
  public func carried(s : Store.State, key : Types.Key) : Nat {
    switch key {
      case (#sender id) switch (Map.get(s.senders, Nat.compare, id)) {
        case (?f) Types.size(f.payload) + Types.size(f.response) + Types.size(f.wrong_payload);
        case null 0;
      };
      case (#receiver k) switch (Map.get(s.receivers, Order.peerId, k)) {
        case (?f) Types.size(f.payload) + Types.size(f.response);
        case null 0;
      };
    };
  };

  /// What the flow may transmit, or tell again, when it is due, in bytes.
  func bulk(s : Store.State, key : Types.Key, now : Nat64) : Nat {
    switch key {
      case (#sender id) switch (Map.get(s.senders, Nat.compare, id)) {
        case (?f) switch (f.state) {
          case (#queued or #sending) Types.size(f.payload);
          case _ if (passed(f.tell_due, now)) carried(s, key) else 0;
        };
        case null 0;
      };
      case (#receiver k) switch (Map.get(s.receivers, Order.peerId, k)) { case (?f) Types.size(f.response); case null 0 };
    };
  };

  func passed(time : ?Nat64, now : Nat64) : Bool { switch time { case (?t) t <= now; case null false } };

  func urgency(s : Store.State, key : Types.Key, now : Nat64) : Nat {
    switch key {
      case (#receiver k) switch (Map.get(s.receivers, Order.peerId, k)) {
        case (?f) if (passed(f.send_due, now)) 2 else 0;
        case null 0;
      };
      case (#sender id) switch (Map.get(s.senders, Nat.compare, id)) {
        case (?f) if (passed(f.fin_due, now)) 1 else switch (f.state) { case (#sending) 3; case (#queued) 4; case _ 0 };
        case null 0;
      };
    };
  };
};
