/// Reference canister `player_positional`: `player`, serving the dialect `positional` beside `unified`.

import AsyncFlow "mo:async-flow";
import Endpoint "mo:async-flow/Endpoint";
import EndpointPositional "mo:async-flow/EndpointPositional";
import Operations "mo:async-flow/Operations";
import Handling "parts/Handling";
import Outcomes "parts/Outcomes";
import PlayerActs "parts/PlayerActs";
import PlayerApplication "parts/PlayerApplication";
import PlayerRole "parts/PlayerRole";

persistent actor class PlayerPositional(install : ?PlayerRole.Install) {
  var flows = AsyncFlow.empty();
  flows := AsyncFlow.upToDate(flows);
  let runs = Outcomes.runs();

  include PlayerApplication(flows, runs, install);
  transient let node = AsyncFlow.Node<system>(flows, played, install);
  include Endpoint(node);
  include EndpointPositional(node);
  include Operations(node);
  include Handling(node, runs);
  include PlayerActs(node);
};
