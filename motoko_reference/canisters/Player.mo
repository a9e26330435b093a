/// Reference canister `player`: sender and receiver whose application does what it is told to.

import AsyncFlow "mo:async-flow";
import Endpoint "mo:async-flow/Endpoint";
import Operations "mo:async-flow/Operations";
import Handling "parts/Handling";
import Outcomes "parts/Outcomes";
import PlayerActs "parts/PlayerActs";
import PlayerApplication "parts/PlayerApplication";
import PlayerRole "parts/PlayerRole";

persistent actor class Player(install : ?PlayerRole.Install) {
  var flows = AsyncFlow.empty();
  flows := AsyncFlow.upToDate(flows);
  let runs = Outcomes.runs();

  include PlayerApplication(flows, runs, install);
  transient let node = AsyncFlow.Node<system>(flows, played, install);
  include Endpoint(node);
  include Operations(node);
  include Handling(node, runs);
  include PlayerActs(node);
};
