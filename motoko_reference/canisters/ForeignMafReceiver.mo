/// Canister `foreign_maf_receiver`: a receiver of the dialect `maf` as somebody else wrote it.
///
/// It has the weaknesses that docs/protocol.md tells of the published Motoko package, on purpose: it
/// knows a flow by its id alone, whoever the sender is; it awaits its handler before it records the id,
/// so that a duplicate meanwhile runs it twice; it forgets at FIN, so that a late duplicate runs it
/// again; it takes a FIN from anybody; it has no hash, tells nobody that it gave up, and loses flows
/// and timers at an upgrade. Its calls wait without bound.
///
/// To drive it: send it NEWs. Its handler answers with the decimal text of the payload's CRC-32.
/// `received()` lists every NEW that the handler was given: who said it, its id and payload, oldest
/// first, up to the last upgrade; more than one entry for an id is a handler that ran more than once.
/// The install argument is that of `foreign_maf_sender`.

import Blob "mo:core/Blob";
import Nat32 "mo:core/Nat32";
import Principal "mo:core/Principal";
import Text "mo:core/Text";
import ForeignMaf "parts/ForeignMaf";
import Scaner "parts/ForeignMafScaner";

persistent actor class ForeignMafReceiver(install : ?ForeignMaf.Install) {
  transient let collection = ForeignMaf.Collection(
    install,
    func(to : Principal, message : ForeignMaf.MessageType) : async* () {
      try { ForeignMaf.peer(to).com_asyncFlow_ack(message) } catch (_) {};
    },
  );
  include Scaner(collection);

  func handle(payload : Blob) : async Blob {
    Text.encodeUtf8(Nat32.toText(Blob.hash(payload)));
  };

  public shared ({ caller }) func com_asyncFlow_newMessage(message : ForeignMaf.MessageType) : () {
    let #NEW new = message else return;
    if (collection.knows(new.msg_id)) return;
    collection.received({ caller; msg_id = new.msg_id; payload = new.payload });
    collection.worked();
    let payload = await handle(new.payload);
    await* collection.add<system>(caller, #ACK { msg_id = new.msg_id; payload });
    collection.worked();
  };

  public func com_asyncFlow_fin(message : ForeignMaf.MessageType) : () {
    let #FIN fin = message else return;
    collection.forget(fin.msg_id);
    collection.worked();
  };
};
