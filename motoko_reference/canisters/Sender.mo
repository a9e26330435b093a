/// Reference canister `sender`: opens a flow when it is told to, and reports how it ended.

import Map "mo:core/Map";
import AsyncFlow "mo:async-flow";
import Endpoint "mo:async-flow/Endpoint";
import Operations "mo:async-flow/Operations";
import Outcomes "parts/Outcomes";
import Sending "parts/Sending";

persistent actor class Sender(install : ?AsyncFlow.Install) {
  var flows = AsyncFlow.empty();
  flows := AsyncFlow.upToDate(flows);
  let outcomes : Outcomes.Outcomes = Map.empty();

  func told(t : AsyncFlow.Tell) { Outcomes.take(outcomes, flows, t) };

  transient let node = AsyncFlow.Node<system>(flows, AsyncFlow.sender(told), install);
  include Endpoint(node);
  include Operations(node);
  include Sending(node, outcomes);

  /// Ingress of strangers costs no cycles.
  system func inspect({ caller : Principal }) : Bool { node.mayCall(caller) };
};
