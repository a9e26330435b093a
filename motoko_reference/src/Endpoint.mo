/// The public methods that every Async Flow canister has: include this once in the actor.
///
/// The dialect `unified`, the outbox, watching and settings (candid/).

import Error "mo:core/Error";
import Nat64 "mo:core/Nat64";
import Principal "mo:core/Principal";
import Time "mo:core/Time";
import Node "Node";
import Types "Types";
import Watch "Watch";

mixin (node : Node.Node) {
  /// NEW, ACK and FIN of the dialect `unified`.
  public shared ({ caller }) func asyncFlow(message : Types.Message) : () {
    await* node.receive(caller, #unified, message);
  };

  /// What waits for the calling agent.
  public query ({ caller }) func asyncFlow_outbox(page : { after : ?Nat64; limit : Nat32 }) : async [Types.OutboxEntry] {
    if (not node.isAgent(caller)) throw Error.reject(Node.agentsOnly);
    node.outbox(caller, page.after, page.limit);
  };

  /// The calling agent has these entries.
  public shared ({ caller }) func asyncFlow_outbox_trim(seq : Nat64) : async () {
    if (not node.isAgent(caller)) throw Error.reject(Node.agentsOnly);
    node.trim(caller, seq);
  };

  public query ({ caller }) func asyncFlow_status() : async Types.Status {
    if (not node.mayWatch(caller)) throw Error.reject(Node.monitorsOnly);
    Watch.status(node.state, Nat64.fromIntWrap(Time.now()));
  };

  public query ({ caller }) func asyncFlow_flows(page : Watch.FlowsQuery) : async Watch.FlowsPage {
    if (not node.mayWatch(caller)) throw Error.reject(Node.monitorsOnly);
    Watch.flows(node.state, page);
  };

  public query ({ caller }) func asyncFlow_events(page : { after : Nat64; limit : Nat32 }) : async [Types.Change] {
    if (not node.mayWatch(caller)) throw Error.reject(Node.monitorsOnly);
    Watch.events(node.state, page.after, page.limit);
  };

  /// Changes settings and lists; a field left out keeps its value.
  public shared ({ caller }) func asyncFlow_configure(change : Node.Install) : async { #ok; #err : Text } {
    if (not Principal.isController(caller)) {
      throw Error.reject(Node.controllersOnly);
    };
    node.configure<system>(change);
  };
};
