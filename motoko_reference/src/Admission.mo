/// Which messages are let in, in the order of docs/protocol.md, section Admission.

import Map "mo:core/Map";
import Nat "mo:core/Nat";
import Nat64 "mo:core/Nat64";
import Access "Access";
import Order "Order";
import Peer "Peer";
import Peers "Peers";
import Store "Store";
import Types "Types";
import Ulid "Ulid";

module {
  /// Why the message is refused before any table is asked, or null.
  public func message(s : Store.State, caller : Principal, message : Types.Message) : ?Text {
    if (Types.idOf(message) >= Types.idLimit) return ?"malformed_id";
    let (size, limit) = switch message {
      case (#NEW m) (m.payload.size(), s.policy.max_payload);
      case (#ACK m) (Types.size(m.payload), s.policy.max_response);
      case (#FIN _) (0, s.policy.max_payload);
    };
    if (size > Nat64.toNat(limit)) return ?"too_large";
    switch (Peer.classify(caller)) {
      case (#canister) {};
      case (#agent) if (not Access.isAgent(s.access, caller) and not named(s, caller, message)) return ?"caller";
      case (#other) return ?"caller";
    };
    switch message {
      case (#NEW _) if (not Access.maySend(s.access, caller)) return ?"access";
      case _ {};
    };
    null;
  };

  /// Whether an ACK or a FIN names a stored flow with this peer: a removal from a list ends no flow.
  public func named(s : Store.State, caller : Principal, message : Types.Message) : Bool {
    switch message {
      case (#NEW _) false;
      case (#ACK m) switch (Map.get(s.senders, Nat.compare, m.msg_id)) { case (?f) f.peer == caller; case null false };
      case (#FIN m) Map.containsKey(s.receivers, Order.peerId, (caller, m.msg_id));
    };
  };

  /// What a peer's NEW that names no stored flow meets.
  public type Verdict = { #refused : Text; #admitted : { floor : Nat64; charge : Bool; paid : Bool } };

  /// Cycles are taken after this, last, and only where `charge` says so. `before`: what of the same batch
  /// was admitted before it.
  public func newFlow(s : Store.State, caller : Principal, msg_id : Nat, payload : Blob, now : Nat64, cycles : Nat, before : Store.Admitted) : Verdict {
    let trusted = Peers.trustsIds(s.peers, caller);
    let time = if trusted Ulid.time(msg_id) else 0;
    let (clock, p) = (Nat64.toNat(now), s.policy);
    if trusted {
      if (time + Nat64.toNat(p.horizon) <= clock) return #refused "horizon";
      if (time > clock + Nat64.toNat(p.skew)) return #refused "future";
    };
    if (now < p.admit_from and time <= Nat64.toNat(p.admit_from)) return #refused "admit_from";
    switch (Store.quota(s, s.receiving, caller, Access.isListed(s.access, caller), payload.size(), before)) {
      case (?reason) return #refused reason;
      case null {};
    };
    let floor = Nat64.fromNat(time);
    let paid = Store.hasPaid(s, caller, msg_id);
    if (p.min_cycles == 0 or paid) return #admitted { floor; charge = false; paid };
    if (cycles < p.min_cycles) return #refused "cycles";
    #admitted { floor; charge = true; paid = true };
  };
};
