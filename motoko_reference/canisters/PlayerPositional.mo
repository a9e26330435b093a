/// Reference canister `player_positional`: `player`, serving the dialect `positional` beside `unified`.

import AsyncFlow "mo:AsyncFlow";
import Endpoint "mo:AsyncFlow/Endpoint";
import EndpointPositional "mo:AsyncFlow/EndpointPositional";
import Operations "mo:AsyncFlow/Operations";
import Handling "parts/Handling";
import Outcomes "parts/Outcomes";
import PlayerActs "parts/PlayerActs";
import PlayerApplication "parts/PlayerApplication";

persistent actor class PlayerPositional(install : ?AsyncFlow.Install) {
  var flows = AsyncFlow.empty();
  flows := AsyncFlow.upToDate(flows);
  let runs = Outcomes.runs();

  include PlayerApplication(flows, runs);
  transient let node = AsyncFlow.Node<system>(flows, played, install);
  include Endpoint(node);
  include EndpointPositional(node);
  include Operations(node);
  include Handling(node, runs);
  include PlayerActs(node);
};
