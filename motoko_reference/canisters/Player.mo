/// Reference canister `player`: sender and receiver whose application does what it is told to.
///
/// A request's payload is a word that says how its handler behaves; `direct` says how tellings and
/// questions are met; `act` is the application's or the operator's side of the library.

import Array "mo:core/Array";
import Blob "mo:core/Blob";
import Error "mo:core/Error";
import InternetComputer "mo:core/InternetComputer";
import List "mo:core/List";
import Nat "mo:core/Nat";
import Nat32 "mo:core/Nat32";
import Principal "mo:core/Principal";
import Runtime "mo:core/Runtime";
import Text "mo:core/Text";
import AsyncFlow "mo:AsyncFlow";
import Endpoint "mo:AsyncFlow/Endpoint";
import Operations "mo:AsyncFlow/Operations";
import Handling "parts/Handling";
import Outcomes "parts/Outcomes";

persistent actor class Player(install : ?AsyncFlow.Install) {
  var flows = AsyncFlow.empty();
  flows := AsyncFlow.upToDate(flows);
  let runs = Outcomes.runs();
  let told = List.empty<AsyncFlow.Tell>();
  let questions = List.empty<AsyncFlow.Ask>();
  var direction : Direction = { trap_until = 0; decision = null; rerun = false };

  type Direction = {
    trap_until : Nat32; // tellings and questions trap up to this try
    decision : ?AsyncFlow.Decision; // of the corruption handler; null: later, by `act`
    rerun : Bool; // from the next start on
  };

  type Act = {
    #cancel : Nat;
    #finish : Nat;
    #retry : Nat;
    #drop : Nat;
    #decide : { key : AsyncFlow.Key; decision : AsyncFlow.Decision };
    #answer : { sender : Principal; msg_id : Nat; response : ?Blob };
    #fail : { sender : Principal; msg_id : Nat; response : ?Blob };
    #forget : { sender : Principal; msg_id : Nat };
    #rerun : { sender : Principal; msg_id : Nat };
    #send : { msg_id : Nat; to : Principal; payload : Blob; dialect : AsyncFlow.Dialect };
  };

  func pause() : async () {};
  func trapLater() : async () { Runtime.trap("as told") };

  func handle(request : AsyncFlow.Request) : AsyncFlow.Reply {
    Outcomes.ran(runs, flows, request);
    let ?text = Text.decodeUtf8(request.payload) else return #answer(?request.payload);
    let words = Text.split(text, #char ' ');
    switch (words.next(), words.next()) {
      case (?"null", _) #answer null;
      case (?"bytes", ?n) switch (Nat.fromText(n)) {
        case (?size) #answer(?Blob.fromArray(Array.repeat<Nat8>(0x61, size)));
        case null #answer null;
      };
      case (?"later", _) #later;
      case (?"retry", _) #retry;
      case (?"fail", _) #failed(?"failed for good");
      case (?"trap", _) Runtime.trap("as told");
      case (?"trap-once", _) if (request.redelivered) #answer(?"redelivered") else #running(func() : async* AsyncFlow.Answer { await trapLater(); #later });
      case (?"running", _) #running(func() : async* AsyncFlow.Answer { await pause(); #answer(?request.payload) });
      case (?"running-trap", _) #running(func() : async* AsyncFlow.Answer { await pause(); Runtime.trap("as told") });
      case _ #answer(?request.payload);
    };
  };

  func take(t : AsyncFlow.Tell) {
    List.add(told, t);
    if (t.tries <= direction.trap_until) Runtime.trap("as told");
  };

  func corrupted(question : AsyncFlow.Ask) : ?AsyncFlow.Decision {
    List.add(questions, question);
    if (question.tries <= direction.trap_until) Runtime.trap("as told");
    direction.decision;
  };

  transient let node = AsyncFlow.Node<system>(
    flows,
    { AsyncFlow.both(handle, take) with notice = take; corruption = corrupted; rerun = direction.rerun },
    install,
  );
  include Endpoint(node);
  include Operations(node);
  include Handling(node, runs);

  func check(caller : Principal) : async* () {
    if (not Principal.isController(caller)) throw Error.reject("only controllers may direct a player");
  };

  /// How tellings and questions are met from now on.
  public shared ({ caller }) func direct(how : Direction) : async () {
    await* check(caller);
    direction := how;
  };

  /// What the application or the operator does.
  public shared ({ caller }) func act(what : Act) : async { #ok; #err : Text } {
    await* check(caller);
    switch what {
      case (#cancel id) await* node.cancel(id);
      case (#finish id) await* node.finish(id);
      case (#retry id) await* node.retry(id);
      case (#drop id) await* node.drop(id);
      case (#decide d) await* node.decide(d.key, d.decision);
      case (#answer a) await* node.answer(a.sender, a.msg_id, a.response);
      case (#fail a) await* node.fail(a.sender, a.msg_id, a.response);
      case (#forget f) await* node.forget(f.sender, f.msg_id);
      case (#rerun f) await* node.rerun(f.sender, f.msg_id);
      case (#send o) switch (await* node.sendAs(o.msg_id, o.to, o.payload, o.dialect)) {
        case (#ok _) #ok;
        case (#err reason) #err reason;
      };
    };
  };

  /// Opens many flows to one peer; their ids.
  public shared ({ caller }) func burst(many : { to : Principal; payload : Blob; times : Nat }) : async [Nat] {
    await* check(caller);
    let ids = List.empty<Nat>();
    for (_ in Nat.range(0, many.times)) switch (await* node.send(many.to, many.payload)) {
      case (#ok id) List.add(ids, id);
      case (#err reason) Runtime.trap(reason);
    };
    List.toArray(ids);
  };

  /// Takes many requests of one listed agent in one message, ids from `first` on, each to its end: what
  /// remains are tombstones.
  public shared ({ caller }) func serve(many : { peer : Principal; first : Nat; payload : Blob; times : Nat }) : async () {
    await* check(caller);
    for (msg_id in Nat.range(many.first, many.first + many.times)) {
      await* node.receive(many.peer, #unified, #NEW { msg_id; payload = many.payload });
      await* node.receive(many.peer, #unified, #FIN { msg_id; hash = null });
    };
  };

  /// Everything the application was told, and asked, in order.
  public query ({ caller }) func heard() : async { told : [AsyncFlow.Tell]; asked : [AsyncFlow.Ask] } {
    if (not Principal.isController(caller)) throw Error.reject("only controllers may direct a player");
    { told = List.toArray(told); asked = List.toArray(questions) };
  };

  /// Instructions that one flow's opening takes now, its transmission included.
  public shared ({ caller }) func cost(one : { to : Principal; payload : Blob }) : async { instructions : Nat64; result : { #ok : Nat; #err : Text } } {
    await* check(caller);
    let before = InternetComputer.performanceCounter(0);
    let result = await* node.send(one.to, one.payload);
    { instructions = InternetComputer.performanceCounter(0) - before; result };
  };

  /// What the library replaces, to be measured beside it: a request whose answer is awaited.
  public shared ({ caller }) func plain(one : { to : Principal; payload : Blob }) : async { caller : Nat64; callee : Nat64 } {
    await* check(caller);
    let to = actor (Principal.toText(one.to)) : actor { plain_answer : shared Blob -> async (Blob, Nat64) };
    let answer = to.plain_answer(one.payload);
    let until_sent = InternetComputer.performanceCounter(0);
    let (_, callee) = await answer; // the counter starts anew
    { caller = until_sent + InternetComputer.performanceCounter(0); callee };
  };

  /// Answers with the payload, and tells the instructions of that.
  public shared ({ caller }) func plain_answer(payload : Blob) : async (Blob, Nat64) {
    if (Principal.isAnonymous(caller)) throw Error.reject("not for the anonymous principal");
    (payload, InternetComputer.performanceCounter(0));
  };

  /// Instructions that the latest installation or upgrade had taken when the canister was ready.
  public query ({ caller }) func start_cost() : async Nat64 {
    if (not Principal.isController(caller)) throw Error.reject("only controllers may direct a player");
    started;
  };

  transient let started = InternetComputer.performanceCounter(0);
};
