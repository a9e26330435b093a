/// Reference canister `sender`: opens a flow when it is told to, and reports how it ended.

import Error "mo:core/Error";
import Map "mo:core/Map";
import Nat "mo:core/Nat";
import AsyncFlow "mo:AsyncFlow";
import Endpoint "mo:AsyncFlow/Endpoint";
import Outcomes "parts/Outcomes";

persistent actor class Sender(install : ?AsyncFlow.Install) {
  let flows = AsyncFlow.empty();
  let outcomes : Outcomes.Outcomes = Map.empty();

  func told(t : AsyncFlow.Tell) { Outcomes.take(outcomes, flows, t) };

  transient let node = AsyncFlow.Node<system>(flows, AsyncFlow.sender(told), install);
  include Endpoint(node);

  /// Opens a flow. The id under which its outcome can be asked for, or why it was not opened.
  public shared ({ caller }) func send(request : { to : Principal; payload : Blob }) : async { #ok : Nat; #err : Text } {
    if (not node.mayCall(caller)) throw Error.reject(AsyncFlow.driversOnly);
    await* node.send(request.to, request.payload);
  };

  /// How a flow ended; null while it is open or once it is forgotten.
  public query ({ caller }) func outcome(id : Nat) : async ?Outcomes.Outcome {
    if (not node.mayCall(caller)) throw Error.reject(AsyncFlow.driversOnly);
    Map.get(outcomes, Nat.compare, id);
  };
};
