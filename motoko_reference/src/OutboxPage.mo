/// What an agent reads of its outbox: entries made into messages, page by page (candid/outbox.did).

import List "mo:core/List";
import Map "mo:core/Map";
import Nat "mo:core/Nat";
import Nat32 "mo:core/Nat32";
import Order "Order";
import Outbox "Outbox";
import Store "Store";
import Types "Types";

module {
  let pageBytes = 1_900_000;

  /// Entries after `after`, oldest first: as many as fit a page, and at least one.
  public func page(s : Store.State, agent : Principal, after : ?Nat64, limit : Nat32, now : Nat64) : [Types.OutboxEntry] {
    let entries = List.empty<Types.OutboxEntry>();
    var bytes = 0;
    label fill for ((seq, entry) in Outbox.waiting(s.outbox, agent, after)) {
      if (List.size(entries) >= Nat32.toNat(limit)) break fill;
      if (List.size(entries) > 0 and bytes + entry.size > pageBytes) break fill;
      switch (message(s, agent, entry.kind, entry.msg_id, now)) {
        case (?message) {
          List.add(entries, { seq; message });
          bytes += entry.size;
        };
        case null {};
      };
    };
    List.toArray(entries);
  };

  func message(s : Store.State, agent : Principal, kind : Types.Kind, id : Nat, now : Nat64) : ?Types.Message {
    switch kind {
      case (#ack) do ? {
        let f = Map.get(s.receivers, Order.peerId, (agent, id))!;
        #ACK { msg_id = id; payload = f.response; hash = ?f.payload_hash };
      };
      case (#new) do ? {
        let f = Map.get(s.senders, Nat.compare, id)!;
        // Its lifetime is tested right before it is handed out, too.
        if (f.state != #sending or now >= f.ends!) null!;
        #NEW { msg_id = id; payload = f.payload! };
      };
      case (#fin) do ? {
        let f = Map.get(s.senders, Nat.compare, id)!;
        #FIN { msg_id = id; hash = f.response_hash };
      };
    };
  };
};
