/// Reference canister `receiver`: answers requests of the `compute` application.

import AsyncFlow "mo:async-flow";
import Endpoint "mo:async-flow/Endpoint";
import Operations "mo:async-flow/Operations";
import Compute "parts/Compute";
import Handling "parts/Handling";
import Outcomes "parts/Outcomes";

persistent actor class Receiver(install : ?AsyncFlow.Install) {
  var flows = AsyncFlow.empty();
  flows := AsyncFlow.upToDate(flows);
  let runs = Outcomes.runs();

  func handle(request : AsyncFlow.Request) : AsyncFlow.Reply {
    Outcomes.ran(runs, flows, request);
    Compute.handle(request);
  };

  transient let node = AsyncFlow.Node<system>(flows, AsyncFlow.receiver(handle), install);
  include Endpoint(node);
  include Operations(node);
  include Handling(node, runs);

  /// Ingress of strangers costs no cycles.
  system func inspect({ caller : Principal }) : Bool { node.mayCall(caller) };
};
