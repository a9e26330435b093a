/// Reference canister `both_bounty`: `both`, serving the dialect `bounty` beside `unified`.

import Map "mo:core/Map";
import AsyncFlow "mo:async-flow";
import Endpoint "mo:async-flow/Endpoint";
import EndpointBounty "mo:async-flow/EndpointBounty";
import Operations "mo:async-flow/Operations";
import Compute "parts/Compute";
import Handling "parts/Handling";
import Outcomes "parts/Outcomes";
import Sending "parts/Sending";

persistent actor class BothBounty(install : ?AsyncFlow.Install) {
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
  include EndpointBounty(node);
  include Operations(node);
  include Sending(node, outcomes);
  include Handling(node, runs);

  /// Ingress of strangers costs no cycles.
  system func inspect({ caller : Principal }) : Bool { node.mayCall(caller) };
};
