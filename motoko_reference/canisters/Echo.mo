/// Reference canister `echo`: a receiver that answers with the payload it was sent.

import AsyncFlow "mo:async-flow";
import Endpoint "mo:async-flow/Endpoint";
import Operations "mo:async-flow/Operations";
import Handling "parts/Handling";
import Outcomes "parts/Outcomes";

persistent actor class Echo(install : ?AsyncFlow.Install) {
  var flows = AsyncFlow.empty();
  flows := AsyncFlow.upToDate(flows);
  let runs = Outcomes.runs();

  func handle(request : AsyncFlow.Request) : AsyncFlow.Reply {
    Outcomes.ran(runs, flows, request);
    #answer(?request.payload);
  };

  transient let node = AsyncFlow.Node<system>(flows, AsyncFlow.receiver(handle), install);
  include Endpoint(node);
  include Operations(node);
  include Handling(node, runs);

  /// Ingress of strangers costs no cycles.
  system func inspect({ caller : Principal }) : Bool { node.mayCall(caller) };
};
