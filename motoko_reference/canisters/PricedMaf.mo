/// Reference canister `priced_maf`: `priced`, serving the dialect `maf` beside `unified`.

import AsyncFlow "mo:async-flow";
import EndpointMafPriced "mo:async-flow/EndpointMafPriced";
import EndpointPriced "mo:async-flow/EndpointPriced";
import Operations "mo:async-flow/Operations";
import Handling "parts/Handling";
import Outcomes "parts/Outcomes";
import PlayerActs "parts/PlayerActs";
import PlayerApplication "parts/PlayerApplication";
import Pricing "parts/Pricing";

persistent actor class PricedMaf(install : ?AsyncFlow.Install) {
  var flows = AsyncFlow.empty();
  flows := AsyncFlow.upToDate(flows);
  let runs = Outcomes.runs();

  include PlayerApplication(flows, runs, null);
  transient let node = AsyncFlow.Node<system>(flows, Pricing.application(played, flows, runs), install);
  include EndpointPriced(node);
  include EndpointMafPriced(node);
  include Operations(node);
  include Handling(node, runs);
  include PlayerActs(node);

  /// Ingress of strangers costs no cycles.
  system func inspect({ caller : Principal }) : Bool { node.mayCall(caller) };
};
