/// What peers call: include this once in the actor.
///
/// The dialect `unified` with NEW as a one-way method, batches, and the outbox (candid/).

import Error "mo:core/Error";
import Node "Node";
import Types "Types";

mixin (node : Node.Node) {
  node.declare(true);

  /// NEW, ACK and FIN of the dialect `unified`.
  public shared ({ caller }) func asyncFlow(message : Types.Message) : () {
    await* node.receive(caller, #unified, message);
  };

  /// Up to 100 messages in one call.
  public shared ({ caller }) func asyncFlow_batch(messages : [Types.Message]) : () {
    await* node.receiveBatch(caller, messages);
  };

  /// An entry of a batch, from this canister itself.
  public shared ({ caller }) func asyncFlow_forward(sender : Principal, message : Types.Message) : () {
    await* node.forwarded(caller, sender, message);
  };

  /// What waits for the calling agent.
  public query ({ caller }) func asyncFlow_outbox(page : { after : ?Nat64; limit : Nat32 }) : async [Types.OutboxEntry] {
    if (not node.hasOutbox(caller)) throw Error.reject(Node.agentsOnly);
    node.outbox(caller, page.after, page.limit);
  };

  /// The calling agent has these entries.
  public shared ({ caller }) func asyncFlow_outbox_trim(seq : Nat64) : async () {
    if (not node.hasOutbox(caller)) throw Error.reject(Node.agentsOnly);
    node.trim(caller, seq);
  };
};
