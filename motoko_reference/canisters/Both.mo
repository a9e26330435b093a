/// Reference canister `both`: sender and receiver in one, with the `compute` application.

import Map "mo:core/Map";
import AsyncFlow "mo:async-flow";
import Endpoint "mo:async-flow/Endpoint";
import Operations "mo:async-flow/Operations";
import Compute "parts/Compute";
import Handling "parts/Handling";
import Outcomes "parts/Outcomes";
import Sending "parts/Sending";

persistent actor class Both(install : ?AsyncFlow.Install) {
  var flows = AsyncFlow.empty();
  flows := AsyncFlow.upToDate(flows);
  let outcomes : Outcomes.Outcomes = Map.empty();
  let runs = Outcomes.runs();

  func handle(request : AsyncFlow.Request) : AsyncFlow.Reply {
    Outcomes.ran(runs, flows, request);
    Compute.handle(request);
  };

  func told(t : AsyncFlow.Tell) { Outcomes.take(outcomes, flows, t) };

  transient let node = AsyncFlow.Node<system>(flows, AsyncFlow.both(handle, told), install);
  include Endpoint(node);
  include Operations(node);
  include Sending(node, outcomes);
  include Handling(node, runs);

  /// Ingress of strangers costs no cycles.
  system func inspect({ caller : Principal }) : Bool { node.mayCall(caller) };
};
