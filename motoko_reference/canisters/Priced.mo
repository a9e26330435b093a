/// Reference canister `priced`: a receiver like `receiver` that can ask `min_cycles` for a request.

import AsyncFlow "mo:AsyncFlow";
import EndpointPriced "mo:AsyncFlow/EndpointPriced";
import Operations "mo:AsyncFlow/Operations";
import Compute "parts/Compute";
import Handling "parts/Handling";
import Outcomes "parts/Outcomes";

persistent actor class Priced(install : ?AsyncFlow.Install) {
  var flows = AsyncFlow.empty();
  flows := AsyncFlow.upToDate(flows);
  let runs = Outcomes.runs();

  func handle(request : AsyncFlow.Request) : AsyncFlow.Reply {
    Outcomes.ran(runs, flows, request);
    Compute.handle(request);
  };

  transient let node = AsyncFlow.Node<system>(flows, { AsyncFlow.receiver(handle) with priced = true }, install);
  include EndpointPriced(node);
  include Operations(node);
  include Handling(node, runs);

  /// Ingress of strangers costs no cycles.
  system func inspect({ caller : Principal }) : Bool { node.mayCall(caller) };
};
