/// The words of Async Flow: messages, flows, events and effects, as types alone.
///
/// Nothing here acts. Flows are immutable records that live in the actor's persistent memory, so a
/// change of their layout is a change of the stored state (see Store.mo). Times are nanoseconds since
/// 1970, durations nanoseconds.

import Blob "mo:core/Blob";

module {
  /// The three messages, as the dialect `unified` carries them (candid/unified.did).
  public type Message = {
    #NEW : { msg_id : Nat; payload : Blob };
    #ACK : { msg_id : Nat; payload : ?Blob; hash : ?Nat32 };
    #FIN : { msg_id : Nat; hash : ?Nat32 };
  };

  public type Dialect = { #unified; #maf; #bounty; #positional };

  public type Kind = { #new; #ack; #fin };

  public type Role = { #sender; #receiver };

  /// Identifies a flow within one canister: a sender's ids are unique over all its receivers, a
  /// receiver tells senders apart.
  public type Key = { #sender : Nat; #receiver : (Principal, Nat) };

  /// All states of both roles (candid/watch.did).
  public type State = {
    #queued;
    #sending;
    #corrupt;
    #answered;
    #dead_letter;
    #acknowledged;
    #failed;
    #processing;
    #stalled;
    #acknowledging;
    #abandoned;
    #finished;
  };

  /// `unsent` and `refused`: certainly not done; the others: the outcome is unknown.
  public type Failure = { #unsent; #refused; #cancelled; #corrupt; #unknown };

  /// One flow that this canister opened.
  public type SenderFlow = {
    peer : Principal;
    msg_id : Nat;
    dialect : Dialect; // fixed when the flow was opened
    state : State;
    failure : ?Failure; // set in `failed`
    late : Bool; // a response came after `failed`
    payload : ?Blob; // null once dropped
    payload_hash : Nat32;
    response : ?Blob; // null for a null response, before there is one, and once dropped
    response_hash : ?Nat32; // null until a response was accepted
    attempts : Nat32; // transmissions of NEW, those certainly not sent taken back
    opened : Nat64;
    changed : Nat64; // the last change of state
    ends : ?Nat64; // when the present state is over by itself: lifetime, linger or retention
    send_due : ?Nat64; // the next transmission of NEW
    tell_due : ?Nat64; // when the application is told or asked again
    tries : Nat32; // opened tries of the present telling or question
    told : Bool; // the application took the outcome
    late_taken : Bool; // and the late response
    fin_due : ?Nat64; // the next transmission of a FIN that the system did not accept
    fin_until : ?Nat64; // when that is given up
    fin_at : ?Nat64; // the last transmission of FIN
    fin_echoes : Nat32; // FINs sent in answer to repeats
    wrong : [Nat32]; // wrong ACK hashes that were reported, at most three
    wrong_hash : ?Nat32; // of the stored wrong ACK
    wrong_payload : ?Blob;
    due : ?Nat64; // the earliest of the times above: all that the timer needs to know
  };

  /// One flow that a peer opened here.
  public type ReceiverFlow = {
    peer : Principal;
    msg_id : Nat;
    dialect : Dialect; // the one its NEW came in
    state : State;
    payload : ?Blob; // null once dropped
    payload_hash : Nat32;
    response : ?Blob;
    response_hash : ?Nat32; // null until there is a response
    attempts : Nat32; // transmissions of ACK, echoes apart
    opened : Nat64;
    changed : Nat64;
    ends : ?Nat64; // when the state is over by itself; of tombstones in observed time
    send_due : ?Nat64; // the next transmission of ACK
    tell_due : ?Nat64;
    tries : Nat32; // of the handler while processing, else of the present telling
    told : Bool; // the application took what the state tells
    ack_at : ?Nat64; // the last transmission of ACK
    ack_echoes : Nat32; // ACKs sent in answer to repeats
    wrong_news : [Nat32]; // other NEW hashes that were reported, at most three
    wrong_fins : [Nat32]; // wrong FIN hashes that were reported, at most three
    deferred : Bool; // the handler answers later by id: a restart loses nothing
    paid : Bool; // its cycles were accepted
    listed : Bool; // its peer was on a list when it came: decides which quota it counts in
    horizon : Nat64; // as promised when the flow came
    floor : Nat64; // trusted ULID time of a peer with such ids, else 0
    due : ?Nat64;
  };

  /// A message handed, or to be handed, to the system. Reported back as it is if it did not leave.
  public type Transmit = {
    peer : Principal;
    dialect : Dialect;
    message : Message;
    attempt : Nat32; // an echo has the number of the attempt that it repeats
    echo : Bool;
    prior_due : ?Nat64; // for an echo: the record's `send_due` before it
    prior_at : ?Nat64; // when this message was last transmitted before it
  };

  public type Decision = { #resend; #accept : ?Nat32; #abandon };

  /// What can befall a flow. `u` is the jitter of this event in millionths: the tables draw nothing.
  /// `lag` is how far observed time is behind the clock. `room` says whether one more
  /// transmission fits the in-flight bound.
  public type Event = {
    u : Nat64;
    lag : Nat64;
    room : Bool;
    what : What;
  };

  public type Received = {
    message : Message;
    caller : Principal;
    dialect : Dialect;
    refused : ?Text; // for a NEW without a flow: why it is not admitted
    paid : Bool;
    listed : Bool;
    floor : Nat64;
  };

  public type What = {
    // From outside.
    #received : Received;
    #due;
    #restarted : { share : Nat64 }; // where in `spread` overdue work lands, in millionths
    #not_sent : Transmit;
    #refused : Transmit; // certainly: no such canister or method
    #rejected : Transmit; // in any other way: the outcome is unknown
    // From the application or the operator.
    #send : { peer : Principal; msg_id : Nat; payload : Blob; dialect : Dialect };
    #cancel;
    #returned : { what : Telling; tries : Nat32 };
    #handler_failed : Work;
    #finish;
    #decided : Decision;
    #retry_dead_letter;
    #drop_dead_letter;
    #answer : { response : ?Blob; fits : Bool };
    #deferred;
    #failed_for_now;
    #failed_for_good : { response : ?Blob; fits : Bool };
    #rerun;
  };

  /// A call of the application's code, by what tells the present one from those before it.
  public type Work = {
    #tell : { what : Telling; tries : Nat32 };
    #ask : { their_hash : Nat32; tries : Nat32 };
    #hand_over : { tries : Nat32 };
  };

  /// What the application, or for a dead letter the operator, is told.
  public type Telling = {
    #answered;
    #failed;
    #late;
    #dead_letter;
    #stalled;
    #abandoned;
    #forgotten;
  };

  public type Tell = {
    role : Role;
    peer : Principal;
    msg_id : Nat;
    what : Telling;
    failure : ?Failure;
    response : ?Blob;
    redelivered : Bool;
    tries : Nat32;
  };

  public type HandOver = {
    peer : Principal;
    msg_id : Nat;
    payload : Blob;
    hash : Nat32;
    redelivered : Bool;
    tries : Nat32;
  };

  public type Ask = {
    role : Role;
    peer : Principal;
    msg_id : Nat;
    kind : Kind;
    our_payload : ?Blob;
    their_payload : ?Blob;
    our_hash : Nat32;
    their_hash : Nat32;
    decide : Bool; // whether a decision is expected
    tries : Nat32;
  };

  /// What to do after the step was stored.
  public type Effect = {
    #transmit : Transmit;
    #hand_over : HandOver;
    #tell : Tell;
    #ask : Ask;
    #count : Text;
    #remember_paid : { peer : Principal; msg_id : Nat; until : Nat64 };
  };

  /// A step's result: the new flow (null: forgotten, or none came to be) and what to do; or an error
  /// to the application that raised the event, which changed nothing.
  public type Transition<Flow> = {
    #ok : { flow : ?Flow; effects : [Effect] };
    #err : Text;
  };

  /// One entry of the bounded history (candid/watch.did).
  public type Change = {
    seq : Nat64;
    time : Nat64;
    role : Role;
    peer : Principal;
    msg_id : Nat;
    from : ?State;
    to : ?State;
    why : Text;
  };

  public type FlowView = {
    role : Role;
    peer : Principal;
    msg_id : Nat;
    state : State;
    failure : ?Failure;
    late : Bool;
    attempts : Nat32;
    due : ?Nat64;
    opened : Nat64;
    changed : Nat64;
    payload_hash : Nat32;
    response_hash : ?Nat32;
  };

  public type OutboxEntry = { seq : Nat64; message : Message };

  /// Identifiers are below this: 2^128.
  public let idLimit : Nat = 0x1_0000_0000_0000_0000_0000_0000_0000_0000;

  /// CRC-32 (IEEE) of a payload. Null equals empty, and both give 0.
  public func hash(payload : ?Blob) : Nat32 {
    switch payload {
      case (?bytes) if (bytes.size() == 0) 0 else Blob.hash(bytes);
      case null 0;
    };
  };

  public func size(payload : ?Blob) : Nat {
    switch payload { case (?bytes) bytes.size(); case null 0 };
  };

  public func idOf(message : Message) : Nat {
    switch message { case (#NEW m) m.msg_id; case (#ACK m) m.msg_id; case (#FIN m) m.msg_id };
  };

  public func kindOf(message : Message) : Kind {
    switch message { case (#NEW _) #new; case (#ACK _) #ack; case (#FIN _) #fin };
  };
};
