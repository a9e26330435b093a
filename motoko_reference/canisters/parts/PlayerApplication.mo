/// The application of the `player` canisters: it does what it is told to.
///
/// A request's payload is a word that says how its handler behaves; `direct` says how tellings and
/// questions are met.

import Array "mo:core/Array";
import Blob "mo:core/Blob";
import Error "mo:core/Error";
import List "mo:core/List";
import Nat "mo:core/Nat";
import Principal "mo:core/Principal";
import Runtime "mo:core/Runtime";
import Text "mo:core/Text";
import AsyncFlow "mo:async-flow";
import Outcomes "Outcomes";
import PlayerRole "PlayerRole";

mixin (flows : AsyncFlow.State, runs : Outcomes.Runs, install : ?PlayerRole.Install) {
  var role : ?PlayerRole.Role = null; // null: both
  var installed = false; // from then on the role is for good
  switch install {
    case (?{ role = ?given }) {
      if (installed and role != ?given) Runtime.trap("bad install argument: the role of this player is for good: leave the role out, or install another canister");
      role := ?given;
    };
    case _ {};
  };
  installed := true;

  let told = List.empty<AsyncFlow.Tell>();
  let questions = List.empty<AsyncFlow.Ask>();
  var direction : Direction = { trap_until = 0; decision = null; rerun = false };

  type Direction = {
    trap_until : Nat32; // tellings and questions trap up to this try
    decision : ?AsyncFlow.Decision; // of the corruption handler; null: later, by `act`
    rerun : Bool; // from the next start on
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
      case (?"running-now", _) #running(func() : async* AsyncFlow.Answer { #answer(?request.payload) });
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

  transient let played = PlayerRole.alone(
    { AsyncFlow.both(handle, take) with notice = take; corruption = corrupted; rerun = direction.rerun },
    role,
  );

  /// How tellings and questions are met from now on.
  public shared ({ caller }) func direct(how : Direction) : async () {
    if (not Principal.isController(caller)) throw Error.reject("only controllers may direct a player");
    direction := how;
  };

  /// Everything the application was told, and asked, in order.
  public query ({ caller }) func heard() : async { told : [AsyncFlow.Tell]; asked : [AsyncFlow.Ask] } {
    if (not Principal.isController(caller)) throw Error.reject("only controllers may direct a player");
    { told = List.toArray(told); asked = List.toArray(questions) };
  };
};
