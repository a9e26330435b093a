/// What the canisters `foreign_maf_sender` and `foreign_maf_receiver` share: the collection of messages
/// that wait for an answer, and the scan that repeats them.
///
/// Written to the description of the published Motoko package in docs/protocol.md, weaknesses included.
/// It must know nothing of this library: it stands for somebody else's code.

import Array "mo:core/Array";
import InternetComputer "mo:core/InternetComputer";
import Iter "mo:core/Iter";
import List "mo:core/List";
import Map "mo:core/Map";
import Nat "mo:core/Nat";
import Order "mo:core/Order";
import Principal "mo:core/Principal";
import Runtime "mo:core/Runtime";
import Time "mo:core/Time";
import Timer "mo:core/Timer";

module {
  public type MessageType = {
    #NEW : { msg_id : Nat; payload : Blob };
    #ACK : { msg_id : Nat; payload : Blob };
    #FIN : { msg_id : Nat };
  };

  public type MessageStatus = {
    attempts : Nat16;
    caller_id : Text; // the peer
    creation_time : Int; // nanoseconds since 1970
    message_type : MessageType;
    processed : Bool;
  };

  /// How often and how soon a message is repeated; durations in seconds.
  public type Install = { attempts : Nat16; wait : Nat; scan_every : Nat; scan_messages : Nat };

  let defaults : Install = { attempts = 10; wait = 330; scan_every = 5; scan_messages = 10 };

  /// What the application was given, in order.
  public type Received = { caller : Principal; msg_id : Nat; payload : Blob };

  // What `received` keeps.
  let receivedMost : Nat = 10_000;

  /// Instructions that this canister has used: to scan, and for all else that flows cost it.
  public type Work = { var scans : Nat64; var flows : Nat64 };

  type Waiting = { status : MessageStatus; sent : Int };

  public type Peer = actor {
    com_asyncFlow_newMessage : shared MessageType -> ();
    com_asyncFlow_ack : shared MessageType -> ();
    com_asyncFlow_fin : shared MessageType -> ();
  };

  public func peer(id : Principal) : Peer { actor (Principal.toText(id)) };

  public func idOf(message : MessageType) : Nat {
    switch message { case (#NEW m) m.msg_id; case (#ACK m) m.msg_id; case (#FIN m) m.msg_id };
  };

  public class Collection(install : ?Install, send : (Principal, MessageType) -> async* ()) {
    let how = switch install { case (?given) given; case null defaults };
    if (how.scan_every == 0 or how.scan_messages == 0) Runtime.trap("scan_every and scan_messages must be positive");
    // A flow is its id alone: a peer's, or one drawn twice, takes the place of the other.
    let messages = Map.empty<Nat, Waiting>();
    var scaner : ?Timer.TimerId = null;
    let log = List.empty<Received>();
    public let work : Work = { var scans = 0; var flows = 0 };

    /// Notes what this message took: to be said before each await, and at the end.
    public func worked() { work.flows += InternetComputer.performanceCounter(0) };

    public func knows(id : Nat) : Bool { Map.containsKey(messages, Nat.compare, id) };
    public func forget(id : Nat) { Map.remove(messages, Nat.compare, id) };
    public func count() : Nat { Map.size(messages) };
    public func clear() { Map.clear(messages) };

    /// Sends a message, and repeats it until its id is forgotten or its attempts end.
    public func add<system>(to : Principal, message : MessageType) : async* () {
      let now = Time.now();
      let status : MessageStatus = {
        attempts = 0; // the first transmission does not count
        caller_id = Principal.toText(to);
        creation_time = now;
        message_type = message;
        processed = false;
      };
      Map.add(messages, Nat.compare, idOf(message), { status; sent = now });
      start<system>();
      await* send(to, message);
    };

    public func received(one : Received) { if (List.size(log) < receivedMost) List.add(log, one) };
    public func all() : [Received] { List.toArray(log) };

    func byTime() : [(Nat, Waiting)] {
      Array.sort<(Nat, Waiting)>(
        Iter.toArray(Map.entries(messages)),
        func(a, b) : Order.Order = if (a.1.sent < b.1.sent) #less else if (a.1.sent == b.1.sent) #equal else #greater,
      );
    };

    public func statuses() : [?MessageStatus] {
      Array.map<(Nat, Waiting), ?MessageStatus>(byTime(), func((_, waiting)) = ?waiting.status);
    };

    public func first() : ?MessageStatus { let all = statuses(); if (all.size() == 0) null else all[0] };

    /// Looks through the whole collection for what has waited long enough.
    func scan() : async () {
      let now = Time.now();
      let due = List.empty<(Nat, Waiting)>();
      label look for ((id, waiting) in Map.entries(messages)) {
        if (List.size(due) >= how.scan_messages) break look;
        if (now - waiting.sent >= how.wait * 1_000_000_000) List.add(due, (id, waiting));
      };
      for ((id, { status }) in List.values(due)) {
        if (status.attempts > how.attempts) forget(id) // and nobody is told
        else {
          Map.add(messages, Nat.compare, id, { status = { status with attempts = status.attempts + 1 }; sent = now });
          await* send(Principal.fromText(status.caller_id), status.message_type);
        };
      };
      if (Map.isEmpty(messages)) stop();
      work.scans += InternetComputer.performanceCounter(0);
    };

    public func isOn() : Bool { scaner != null };

    public func start<system>() {
      if (scaner == null) scaner := ?Timer.recurringTimer<system>(#seconds(how.scan_every), scan);
    };

    public func stop() {
      switch scaner { case (?id) Timer.cancelTimer(id); case null {} };
      scaner := null;
    };
  };
};
