/// What a reference canister that receives reports (candid/reference.did).

import Error "mo:core/Error";
import AsyncFlow "mo:async-flow";
import Outcomes "Outcomes";

mixin (node : AsyncFlow.Node, runs : Outcomes.Runs) {
  /// How often the handler ran for this flow.
  public query ({ caller }) func handled(flow : { sender : Principal; msg_id : Nat }) : async Nat {
    if (not node.mayDrive(caller)) throw Error.reject(AsyncFlow.driversOnly);
    Outcomes.handled(runs, flow.sender, flow.msg_id);
  };
};
