/// What monitors and controllers call: include this once in the actor.
///
/// Status, flows, events and settings (candid/watch.did, candid/settings.did).

import Error "mo:core/Error";
import Nat64 "mo:core/Nat64";
import Principal "mo:core/Principal";
import Time "mo:core/Time";
import Install "Install";
import Node "Node";
import Types "Types";
import Watch "Watch";

mixin (node : Node.Node) {
  /// Counters, gauges and settings. For controllers and listed monitors, as all queries here.
  public query ({ caller }) func asyncFlow_status() : async Watch.Status {
    if (not node.mayWatch(caller)) throw Error.reject(Node.monitorsOnly);
    Watch.status(node.state, Nat64.fromIntWrap(Time.now()));
  };

  /// Flows page by page: those of one role or state, where that is asked.
  public query ({ caller }) func asyncFlow_flows(page : Watch.FlowsQuery) : async Watch.FlowsPage {
    if (not node.mayWatch(caller)) throw Error.reject(Node.monitorsOnly);
    Watch.flows(node.state, page);
  };

  /// The bounded history: changes after number `after`, oldest first.
  public query ({ caller }) func asyncFlow_events(page : { after : Nat64; limit : Nat32 }) : async [Types.Change] {
    if (not node.mayWatch(caller)) throw Error.reject(Node.monitorsOnly);
    Watch.events(node.state, page.after, page.limit);
  };

  /// Changes settings, lists and what is configured for peers; a field left out keeps its value. For
  /// controllers.
  public shared ({ caller }) func asyncFlow_configure(change : Install.Install) : async { #ok; #err : Text } {
    if (not Principal.isController(caller)) throw Error.reject(Node.controllersOnly);
    node.configure<system>(change);
  };
};
