/// Reference canister `priced_bounty`: `priced`, serving the dialect `bounty` beside `unified`.

import AsyncFlow "mo:async-flow";
import EndpointBountyPriced "mo:async-flow/EndpointBountyPriced";
import EndpointPriced "mo:async-flow/EndpointPriced";
import Operations "mo:async-flow/Operations";
import Handling "parts/Handling";
import Outcomes "parts/Outcomes";
import PlayerActs "parts/PlayerActs";
import PlayerApplication "parts/PlayerApplication";
import Pricing "parts/Pricing";

persistent actor class PricedBounty(install : ?AsyncFlow.Install) {
  var flows = AsyncFlow.empty();
  flows := AsyncFlow.upToDate(flows);
  let runs = Outcomes.runs();

  include PlayerApplication(flows, runs, null);
  transient let node = AsyncFlow.Node<system>(flows, Pricing.application(played, flows, runs), install);
  include EndpointPriced(node);
  include EndpointBountyPriced(node);
  include Operations(node);
  include Handling(node, runs);
  include PlayerActs(node);

  /// Ingress of strangers costs no cycles.
  system func inspect({ caller : Principal }) : Bool { node.mayCall(caller) };
};
