/// Reference canister `receiver`: answers requests of the `compute` application.

import Error "mo:core/Error";
import AsyncFlow "mo:AsyncFlow";
import Endpoint "mo:AsyncFlow/Endpoint";
import Compute "parts/Compute";
import Outcomes "parts/Outcomes";

persistent actor class Receiver(install : ?AsyncFlow.Install) {
  let flows = AsyncFlow.empty();
  let runs = Outcomes.runs();

  func handle(request : AsyncFlow.Request) : AsyncFlow.Reply {
    Outcomes.ran(runs, flows, request);
    Compute.handle(request);
  };

  transient let node = AsyncFlow.Node<system>(flows, AsyncFlow.receiver(handle), install);
  include Endpoint(node);

  /// How often the handler ran for this flow.
  public query ({ caller }) func handled(flow : { sender : Principal; msg_id : Nat }) : async Nat {
    if (not node.mayCall(caller)) throw Error.reject(AsyncFlow.driversOnly);
    Outcomes.handled(runs, flow.sender, flow.msg_id);
  };
};
