/// Reference canister `tables`: the two pure tables as queries, for the protocol's test vectors.

import Array "mo:core/Array";
import Policy "mo:async-flow/Policy";
import Receiver "mo:async-flow/Receiver";
import Sender "mo:async-flow/Sender";
import Types "mo:async-flow/Types";

persistent actor {
  type SenderStep = { before : ?Types.SenderFlow; event : Types.Event; now : Nat64; policy : Policy.Policy; null_ack : Sender.NullAck };
  type ReceiverStep = { before : ?Types.ReceiverFlow; event : Types.Event; now : Nat64; policy : Policy.Policy; rerun : Bool };

  /// One step of the sender's table for each entry.
  public query func sender(steps : [SenderStep]) : async [Types.Transition<Types.SenderFlow>] {
    Array.map<SenderStep, Types.Transition<Types.SenderFlow>>(
      steps,
      func s = Sender.step(s.before, s.event, s.now, s.policy, s.null_ack),
    );
  };

  /// One step of the receiver's table for each entry.
  public query func receiver(steps : [ReceiverStep]) : async [Types.Transition<Types.ReceiverFlow>] {
    Array.map<ReceiverStep, Types.Transition<Types.ReceiverFlow>>(
      steps,
      func s = Receiver.step(s.before, s.event, s.now, s.policy, s.rerun),
    );
  };
};
