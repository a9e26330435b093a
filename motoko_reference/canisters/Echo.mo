/// Reference canister `echo`: a receiver that answers with the payload it was sent.

import AsyncFlow "mo:AsyncFlow";
import Endpoint "mo:AsyncFlow/Endpoint";

persistent actor class Echo(install : ?AsyncFlow.Install) {
  let flows = AsyncFlow.empty();
  transient let node = AsyncFlow.Node<system>(
    flows,
    AsyncFlow.receiver(func(request) = #answer(?request.payload)),
    install,
  );
  include Endpoint(node);
};
