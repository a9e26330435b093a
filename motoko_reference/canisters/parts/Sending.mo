/// How a reference canister that sends is driven (candid/reference.did).

import Error "mo:core/Error";
import Map "mo:core/Map";
import Nat "mo:core/Nat";
import AsyncFlow "mo:async-flow";
import Outcomes "Outcomes";

mixin (node : AsyncFlow.Node, outcomes : Outcomes.Outcomes) {
  /// Opens a flow. The id under which its outcome can be asked for, or why it was not opened.
  public shared ({ caller }) func send(request : { to : Principal; payload : Blob }) : async { #ok : Nat; #err : Text } {
    if (not node.mayDrive(caller)) throw Error.reject(AsyncFlow.driversOnly);
    await* node.send(request.to, request.payload);
  };

  /// How a flow ended; null while it is open or once it is forgotten.
  public query ({ caller }) func outcome(id : Nat) : async ?Outcomes.Outcome {
    if (not node.mayDrive(caller)) throw Error.reject(AsyncFlow.driversOnly);
    Map.get(outcomes, Nat.compare, id);
  };
};
