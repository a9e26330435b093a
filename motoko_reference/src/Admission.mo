/// Which messages are let in, in the order of docs/protocol.md, section Admission.

import Map "mo:core/Map";
import Nat "mo:core/Nat";
import Nat64 "mo:core/Nat64";
import Access "Access";
import Order "Order";
import Peer "Peer";
import Store "Store";
import Types "Types";

module {
  /// Why the message is refused before any table is asked, or null.
  public func message(s : Store.State, caller : Principal, message : Types.Message) : ?Text {
    if (Types.idOf(message) >= Types.idLimit) return ?"refused: id";
    let (size, limit) = switch message {
      case (#NEW m) (m.payload.size(), s.policy.max_payload);
      case (#ACK m) (Types.size(m.payload), s.policy.max_response);
      case (#FIN _) (0, s.policy.max_payload);
    };
    if (size > Nat64.toNat(limit)) return ?"refused: size";
    switch (Peer.classify(caller)) {
      case (#canister) {};
      case (#agent) if (not Access.isAgent(s.access, caller) and not named(s, caller, message)) return ?"refused: agent not listed";
      case (#other) return ?"refused: principal";
    };
    switch message {
      case (#NEW _) if (not Access.maySend(s.access, caller)) return ?"refused: access list";
      case _ {};
    };
    null;
  };

  /// Whether an ACK or a FIN names a stored flow with this peer: a removal from a list ends no flow.
  func named(s : Store.State, caller : Principal, message : Types.Message) : Bool {
    switch message {
      case (#NEW _) false;
      case (#ACK m) switch (Map.get(s.senders, Nat.compare, m.msg_id)) { case (?f) f.peer == caller; case null false };
      case (#FIN m) Map.containsKey(s.receivers, Order.peerId, (caller, m.msg_id));
    };
  };

  /// Why a NEW that names no stored flow is refused, or null. Cycles are taken after this, last.
  public func newFlow(s : Store.State, caller : Principal, payload : Blob, now : Nat64) : ?Text {
    if (now < s.policy.admit_from) return ?"refused: not yet admitting";
    Store.quota(s, s.receiving, caller, Access.isListed(s.access, caller), payload.size());
  };
};
