/// What peers call where `min_cycles` may be set: include this instead of Endpoint.
///
/// The same methods, but NEW's replies only after its body ran: a one-way method would refund the
/// cycles before the body could accept them.

import Error "mo:core/Error";
import Node "Node";
import Types "Types";

mixin (node : Node.Node) {
  node.declare(false);

  /// NEW, ACK and FIN of the dialect `unified`.
  public shared ({ caller }) func asyncFlow(message : Types.Message) : async () {
    await* node.receive(caller, #unified, message);
  };

  /// Up to 100 messages in one call.
  public shared ({ caller }) func asyncFlow_batch(messages : [Types.Message]) : async () {
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
