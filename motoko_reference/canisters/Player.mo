/// Reference canister `player`: sender and receiver whose application does what it is told to.

import AsyncFlow "mo:AsyncFlow";
import Endpoint "mo:AsyncFlow/Endpoint";
import Operations "mo:AsyncFlow/Operations";
import Handling "parts/Handling";
import Outcomes "parts/Outcomes";
import PlayerActs "parts/PlayerActs";
import PlayerApplication "parts/PlayerApplication";

persistent actor class Player(install : ?AsyncFlow.Install) {
  var flows = AsyncFlow.empty();
  flows := AsyncFlow.upToDate(flows);
  let runs = Outcomes.runs();

  include PlayerApplication(flows, runs);
  transient let node = AsyncFlow.Node<system>(flows, played, install);
  include Endpoint(node);
  include Operations(node);
  include Handling(node, runs);
  include PlayerActs(node);
};
