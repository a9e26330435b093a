/// Reference canister `player_maf`: `player`, serving the dialect `maf` beside `unified`.

import AsyncFlow "mo:async-flow";
import Endpoint "mo:async-flow/Endpoint";
import EndpointMaf "mo:async-flow/EndpointMaf";
import Operations "mo:async-flow/Operations";
import Handling "parts/Handling";
import Outcomes "parts/Outcomes";
import PlayerActs "parts/PlayerActs";
import PlayerApplication "parts/PlayerApplication";
import PlayerRole "parts/PlayerRole";

persistent actor class PlayerMaf(install : ?PlayerRole.Install) {
  var flows = AsyncFlow.empty();
  flows := AsyncFlow.upToDate(flows);
  let runs = Outcomes.runs();

  include PlayerApplication(flows, runs, install);
  transient let node = AsyncFlow.Node<system>(flows, played, install);
  include Endpoint(node);
  include EndpointMaf(node);
  include Operations(node);
  include Handling(node, runs);
  include PlayerActs(node);
};
