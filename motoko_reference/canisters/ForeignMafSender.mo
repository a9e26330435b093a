/// Canister `foreign_maf_sender`: a sender of the dialect `maf` as somebody else wrote it.
///
/// It has the weaknesses that docs/protocol.md tells of the published Motoko package, on purpose: it
/// takes an ACK from anybody, forgets a flow at the first, never answers one that it does not know,
/// gives every ACK to its application before any check, draws 32-bit ids, has no hash, tells nobody
/// that it gave up, and loses flows and timers at an upgrade. Its calls wait without bound.
///
/// To drive it: `start(peer, payload)` opens a flow and returns its id, once its NEW has left;
/// `new_message(peer's text, payload)` is the package's own way. `received()` lists every ACK that the
/// application was given: who said it, its id and payload, oldest first, up to the last upgrade. The
/// install argument is optional: `attempts` (10), and in seconds `wait` (330) and `scan_every` (5), and
/// `scan_messages` (10) that one scan looks at. While nothing waits, it has no timer.

import Nat32 "mo:core/Nat32";
import Principal "mo:core/Principal";
import Random "mo:core/Random";
import ForeignMaf "parts/ForeignMaf";
import Scaner "parts/ForeignMafScaner";

persistent actor class ForeignMafSender(install : ?ForeignMaf.Install) {
  transient let collection = ForeignMaf.Collection(
    install,
    func(to : Principal, message : ForeignMaf.MessageType) : async* () {
      try { ForeignMaf.peer(to).com_asyncFlow_newMessage(message) } catch (_) {};
    },
  );
  include Scaner(collection);

  func open(to : Principal, payload : Blob) : async* Nat {
    let random = Random.crypto();
    let msg_id = Nat32.toNat(Nat32.fromNat(await* random.natRange(0, 0x1_0000_0000)));
    await* collection.add<system>(to, #NEW { msg_id; payload });
    collection.worked();
    msg_id;
  };

  public func start(to : Principal, payload : Blob) : async Nat { await* open(to, payload) };

  public func new_message(to : Text, payload : Blob) : () {
    ignore await* open(Principal.fromText(to), payload);
  };

  public shared ({ caller }) func com_asyncFlow_ack(message : ForeignMaf.MessageType) : () {
    let #ACK ack = message else return;
    collection.received({ caller; msg_id = ack.msg_id; payload = ack.payload });
    if (not collection.knows(ack.msg_id)) return;
    collection.forget(ack.msg_id);
    try { ForeignMaf.peer(caller).com_asyncFlow_fin(#FIN { msg_id = ack.msg_id }) } catch (_) {};
    collection.worked();
  };
};
