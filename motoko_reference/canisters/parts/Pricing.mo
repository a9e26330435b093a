/// The application of the `priced` canisters: `compute` for payloads that are Candid, and for all others
/// that of the `player`, without a sender's side.

import AsyncFlow "mo:async-flow";
import Compute "Compute";
import Outcomes "Outcomes";

module {
  public func application(played : AsyncFlow.Application, flows : AsyncFlow.State, runs : Outcomes.Runs) : AsyncFlow.Application {
    func handle(request : AsyncFlow.Request) : AsyncFlow.Reply {
      switch (played.handler) {
        case (?other) if (not Compute.isCandid(request.payload)) return other(request);
        case null {};
      };
      Outcomes.ran(runs, flows, request);
      Compute.handle(request);
    };
    { played with handler = ?handle; outcome = null; priced = true };
  };
};
