/// The dialect `maf` (candid/maf.did) where `min_cycles` may be set: include this beside EndpointPriced
/// instead of EndpointMaf. NEW's method replies only after its body ran.
///
/// A canister serves at most one dialect besides `unified`: they share method names.

import Dialects "Dialects";
import Node "Node";

mixin (node : Node.Node) {
  public shared ({ caller }) func com_asyncFlow_newMessage(message : Dialects.Maf) : async () {
    await* node.receive(caller, #maf, Dialects.fromMaf(message));
  };

  public shared ({ caller }) func com_asyncFlow_ack(message : Dialects.Maf) : () {
    await* node.receive(caller, #maf, Dialects.fromMaf(message));
  };

  public shared ({ caller }) func com_asyncFlow_fin(message : Dialects.Maf) : () {
    await* node.receive(caller, #maf, Dialects.fromMaf(message));
  };
};
