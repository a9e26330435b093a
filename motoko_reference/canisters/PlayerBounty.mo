/// Reference canister `player_bounty`: `player`, serving the dialect `bounty` beside `unified`.

import AsyncFlow "mo:async-flow";
import Endpoint "mo:async-flow/Endpoint";
import EndpointBounty "mo:async-flow/EndpointBounty";
import Operations "mo:async-flow/Operations";
import Handling "parts/Handling";
import Outcomes "parts/Outcomes";
import PlayerActs "parts/PlayerActs";
import PlayerApplication "parts/PlayerApplication";
import PlayerRole "parts/PlayerRole";

persistent actor class PlayerBounty(install : ?PlayerRole.Install) {
  var flows = AsyncFlow.empty();
  flows := AsyncFlow.upToDate(flows);
  let runs = Outcomes.runs();

  include PlayerApplication(flows, runs, install);
  transient let node = AsyncFlow.Node<system>(flows, played, install);
  include Endpoint(node);
  include EndpointBounty(node);
  include Operations(node);
  include Handling(node, runs);
  include PlayerActs(node);
};
