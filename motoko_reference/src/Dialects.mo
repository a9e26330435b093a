/// The three messages as calls of the four dialects (candid/): how to say them to a peer.

import Blob "mo:core/Blob";
import Principal "mo:core/Principal";
import Types "Types";

module {
  public type Maf = {
    #NEW : { msg_id : Nat; payload : Blob };
    #ACK : { msg_id : Nat; payload : Blob };
    #FIN : { msg_id : Nat };
  };

  type Unified = actor { asyncFlow : shared Types.Message -> () };
  type MafPeer = actor {
    com_asyncFlow_newMessage : shared Maf -> ();
    com_asyncFlow_ack : shared Maf -> ();
    com_asyncFlow_fin : shared Maf -> ();
  };
  public type BountyNew = { msg_id : Nat; payload : Blob };
  public type BountyAck = { msg_id : Nat; hash : ?Nat32; payload : Blob };
  public type BountyFin = { msg_id : Nat; hash : ?Nat32 };
  type BountyPeer = actor {
    com_asyncFlow_newMessage : shared BountyNew -> ();
    com_asyncFlow_ack : shared BountyAck -> ();
    com_asyncFlow_ackack : shared BountyFin -> ();
  };
  type PositionalPeer = actor {
    com_asyncFlow_newMessage : shared (Nat, Blob) -> ();
    com_asyncFlow_ack : shared (Nat, ?Nat32, Blob) -> ();
    com_asyncFlow_finish : shared (Nat, ?Nat32) -> ();
  };

  type BatchPeer = actor { asyncFlow_batch : shared [Types.Message] -> () };

  public func fromMaf(message : Maf) : Types.Message {
    switch message {
      case (#NEW m) #NEW m;
      case (#ACK m) #ACK { m with payload = ?m.payload; hash = null };
      case (#FIN m) #FIN { m with hash = null };
    };
  };

  /// What a dialect without `opt` carries for a null response.
  func plain(payload : ?Blob) : Blob {
    switch payload { case (?bytes) bytes; case null Blob.empty() };
  };

  /// Makes the one-way call, in bounded wait of `timeout` seconds.
  ///
  /// Throws if it failed at once (queue full, no cycles): then it certainly did not leave.
  public func call(peer : Principal, dialect : Types.Dialect, message : Types.Message, timeout : Nat32, cycles : Nat) : async* () {
    let id = Principal.toText(peer);
    switch dialect {
      case (#unified) {
        let to = actor (id) : Unified;
        (with timeout; cycles) to.asyncFlow(message);
      };
      case (#maf) {
        let to = actor (id) : MafPeer;
        switch message {
          case (#NEW m) (with timeout; cycles) to.com_asyncFlow_newMessage(#NEW m);
          case (#ACK m) (with timeout; cycles) to.com_asyncFlow_ack(#ACK { msg_id = m.msg_id; payload = plain(m.payload) });
          case (#FIN m) (with timeout; cycles) to.com_asyncFlow_fin(#FIN { msg_id = m.msg_id });
        };
      };
      case (#bounty) {
        let to = actor (id) : BountyPeer;
        switch message {
          case (#NEW m) (with timeout; cycles) to.com_asyncFlow_newMessage(m);
          case (#ACK m) (with timeout; cycles) to.com_asyncFlow_ack({ msg_id = m.msg_id; hash = m.hash; payload = plain(m.payload) });
          case (#FIN m) (with timeout; cycles) to.com_asyncFlow_ackack(m);
        };
      };
      case (#positional) {
        let to = actor (id) : PositionalPeer;
        switch message {
          case (#NEW m) (with timeout; cycles) to.com_asyncFlow_newMessage(m.msg_id, m.payload);
          case (#ACK m) (with timeout; cycles) to.com_asyncFlow_ack(m.msg_id, m.hash, plain(m.payload));
          case (#FIN m) (with timeout; cycles) to.com_asyncFlow_finish(m.msg_id, m.hash);
        };
      };
    };
  };

  /// The same for many messages of the dialect `unified` in one call.
  public func callBatch(peer : Principal, messages : [Types.Message], timeout : Nat32, cycles : Nat) : async* () {
    let to = actor (Principal.toText(peer)) : BatchPeer;
    (with timeout; cycles) to.asyncFlow_batch(messages);
  };
};
