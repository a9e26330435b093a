/// The dialect `bounty` (candid/bounty.did) where `min_cycles` may be set: include this beside EndpointPriced
/// instead of EndpointBounty. NEW's method replies only after its body ran.
///
/// A canister serves at most one dialect besides `unified`: they share method names.

import Dialects "Dialects";
import Node "Node";

mixin (node : Node.Node) {
  public shared ({ caller }) func com_asyncFlow_newMessage(message : Dialects.BountyNew) : async () {
    await* node.receive(caller, #bounty, #NEW message);
  };

  public shared ({ caller }) func com_asyncFlow_ack(message : Dialects.BountyAck) : () {
    await* node.receive(caller, #bounty, #ACK { message with payload = ?message.payload });
  };

  public shared ({ caller }) func com_asyncFlow_ackack(message : Dialects.BountyFin) : () {
    await* node.receive(caller, #bounty, #FIN message);
  };
};
