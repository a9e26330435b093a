/// What an application gives to the library: its handlers.

import Types "Types";

module {
  /// A NEW, handed to the receiver's application.
  public type Request = {
    sender : Principal;
    msg_id : Nat;
    payload : Blob;
    hash : Nat32;
    redelivered : Bool; // the handler may have run on it before
  };

  /// What the handler makes of a request.
  ///
  /// The handler shares one message with the store: if it traps, both are undone, and the sender's
  /// next NEW is processed. Work that it returns as `#running` may await; a restart or a trap of it
  /// leaves the flow stalled.
  public type Reply = {
    #answer : ?Blob;
    #failed : ?Blob;
    #later;
    #retry;
    #running : () -> async* Answer;
  };

  /// The same once running work is done.
  public type Answer = {
    #answer : ?Blob; // the response; null is one too
    #failed : ?Blob; // failed for good: these bytes are the answer
    #later; // `Node.answer` will follow; a restart loses nothing
    #retry; // failed, to be retried: the sender's next NEW is processed anew
  };

  /// Takes a NEW. It may not await; work that does is returned as `#running`.
  public type Handler = Request -> Reply;

  /// Takes what a flow tells; by returning it has taken it. If it traps, or has not returned within
  /// `answer_within`, it is told again, marked `redelivered`.
  public type Listener = {
    #synchronous : Types.Tell -> ();
    #running : Types.Tell -> async* ();
  };

  /// What an application gives to `Node`.
  public type Application = {
    handler : ?Handler; // null: no receiver, NEW and FIN are counted and ignored
    outcome : ?Listener; // null: no sender, ACK is counted and ignored
    notice : Types.Tell -> (); // stalled, abandoned, forgotten; dead letters, for the operator
    corruption : Types.Ask -> ?Types.Decision; // null: `Node.decide` will follow
    priced : Bool; // `min_cycles` may be set: needs EndpointPriced
    rerun : Bool; // handlers are idempotent: what a restart or a trap interrupted runs again at once
  };

  func ignored(_ : Types.Tell) {};
  func resend(_ : Types.Ask) : ?Types.Decision { ?#resend };

  /// Neither sender nor receiver; asks for nothing, lets wrong ACKs be sent again.
  public let none : Application = {
    handler = null;
    outcome = null;
    notice = ignored;
    corruption = resend;
    priced = false;
    rerun = false;
  };

  /// An application that answers requests at once.
  public func receiver(handle : Handler) : Application {
    { none with handler = ?handle };
  };

  /// An application that opens flows and hears how they end.
  public func sender(outcome : Types.Tell -> ()) : Application {
    { none with outcome = ?#synchronous outcome };
  };

  /// An application that does both.
  public func both(handle : Handler, outcome : Types.Tell -> ()) : Application {
    { none with handler = ?handle; outcome = ?#synchronous outcome };
  };
};
