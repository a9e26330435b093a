/// The dialect `positional` (candid/positional.did) where `min_cycles` may be set: include this beside EndpointPriced
/// instead of EndpointPositional. NEW's method replies only after its body ran.
///
/// A canister serves at most one dialect besides `unified`: they share method names.

import Node "Node";

mixin (node : Node.Node) {
  public shared ({ caller }) func com_asyncFlow_newMessage(msg_id : Nat, payload : Blob) : async () {
    await* node.receive(caller, #positional, #NEW { msg_id; payload });
  };

  public shared ({ caller }) func com_asyncFlow_ack(msg_id : Nat, hash : ?Nat32, payload : Blob) : () {
    await* node.receive(caller, #positional, #ACK { msg_id; hash; payload = ?payload });
  };

  /// A hash of another type, as the specification's example also shows, counts as absent: Candid
  /// decodes an `opt` of another type as null.
  public shared ({ caller }) func com_asyncFlow_finish(msg_id : Nat, hash : ?Nat32) : () {
    await* node.receive(caller, #positional, #FIN { msg_id; hash });
  };
};
