/// The application's and the operator's side of the library in the `player` canisters, and what it costs.
///
/// Include this last: `start_cost` tells what came before it.

import Error "mo:core/Error";
import InternetComputer "mo:core/InternetComputer";
import List "mo:core/List";
import Nat "mo:core/Nat";
import Principal "mo:core/Principal";
import Runtime "mo:core/Runtime";
import AsyncFlow "mo:async-flow";

mixin (node : AsyncFlow.Node) {
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

  func check(caller : Principal) : async* () {
    if (not Principal.isController(caller)) throw Error.reject("only controllers may direct a player");
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
