/// The receiver's table of docs/protocol.md, as one pure function.
///
/// `step` takes a flow, an event and the time, and gives the new flow and what to do. It reads no
/// clock, draws no chance, calls nobody and touches no store. Tombstones age by observed time, which
/// is `event.lag` behind the clock.

import List "mo:core/List";
import Nat64 "mo:core/Nat64";
import Policy "Policy";
import Types "Types";

module {
  type Flow = Types.ReceiverFlow;
  type Event = Types.Event;
  type Transition = Types.Transition<Flow>;

  /// One step of one flow. `record` is the flow of (caller, msg_id), or null.
  public func step(record : ?Flow, event : Event, now : Nat64, policy : Policy.Policy) : Transition {
    switch record {
      case null absent(event, now, policy);
      case (?flow) {
        let draft = Draft(flow, event, now, policy);
        draft.expire();
        switch (present(draft, event)) {
          case (?reason) #err reason;
          case null #ok { flow = draft.result(); effects = draft.effects() };
        };
      };
    };
  };

  func absent(event : Event, now : Nat64, policy : Policy.Policy) : Transition {
    switch (event.what) {
      case (#received r) switch (r.message) {
        case (#NEW new) {
          switch (r.refused) {
            case (?reason) return counted(reason);
            case null {};
          };
          let draft = Draft(opened(r, new, now, policy), event, now, policy);
          draft.handOver(1);
          #ok { flow = draft.result(); effects = draft.effects() };
        };
        case (#FIN _) counted("unknown fin");
        case _ counted("not for a receiver");
      };
      case (#answer _ or #failed_for_good _ or #failed_for_now or #deferred or #rerun or #decided _) {
        #err "there is no such flow: it never came or is forgotten";
      };
      case _ counted("no such flow");
    };
  };

  func counted(reason : Text) : Transition { #ok { flow = null; effects = [#count reason] } };

  func opened(r : Types.Received, new : { msg_id : Nat; payload : Blob }, now : Nat64, policy : Policy.Policy) : Flow {
    {
      peer = r.caller;
      msg_id = new.msg_id;
      dialect = r.dialect;
      state = #processing;
      payload = ?new.payload;
      payload_hash = Types.hash(?new.payload);
      response = null;
      response_hash = null;
      attempts = 0;
      opened = now;
      changed = now;
      ends = ?(now + policy.answer_within);
      send_due = null;
      tell_due = null;
      tries = 0;
      told = false;
      ack_at = null;
      ack_echoes = 0;
      wrong_news = [];
      wrong_fins = [];
      deferred = false;
      paid = r.paid;
      listed = r.listed;
      horizon = policy.horizon;
      floor = r.floor;
      due = null;
    };
  };

  func present(d : Draft, event : Event) : ?Text {
    switch (event.what) {
      case (#received r) {
        switch (r.message) {
          case (#NEW new) d.newAgain(new.payload);
          case (#FIN fin) d.fin(fin.hash);
          case (#ACK _) d.count("not for a receiver");
        };
        null;
      };
      case (#due) { d.due(event.room); null };
      case (#restarted { share }) { d.restart(share); null };
      case (#not_sent t) { d.notSent(t); null };
      case (#refused _) { d.refused(); null };
      case (#rejected _) { d.count("rejected"); null };
      case (#returned { tries }) { d.returned(tries); null };
      case (#handler_failed { tries }) { d.handlerFailed(tries); null };
      case (#decided decision) { d.decide(decision); null };
      case (#answer { response; fits }) d.answer(response, fits);
      case (#failed_for_good { response; fits }) d.answer(response, fits);
      case (#failed_for_now) d.failedForNow();
      case (#deferred) d.deferred();
      case (#rerun) d.rerun();
      case _ { d.count("not for a receiver"); null };
    };
  };

  let alreadyAnswered = "this flow was answered before";

  /// A flow in the making: the rows of the table are its methods.
  class Draft(initial : Flow, event : Event, now : Nat64, p : Policy.Policy) {
    public var flow : Flow = initial;
    var forgotten = false;
    let out = List.empty<Types.Effect>();
    let observed : Nat64 = if (event.lag < now) now - event.lag else 0;

    public func result() : ?Flow { if forgotten null else ?settled() };
    public func effects() : [Types.Effect] { List.toArray(out) };
    func emit(effect : Types.Effect) { List.add(out, effect) };
    public func count(reason : Text) { emit(#count reason) };

    func isTombstone() : Bool {
      switch (flow.state) { case (#finished or #abandoned or #stalled) true; case _ false };
    };

    /// The flow with `due` derived from its other times.
    func settled() : Flow {
      let ends = switch (flow.ends) {
        case (?time) ?(if (isTombstone()) time + event.lag else time);
        case null null;
      };
      { flow with due = Policy.earliest([ends, flow.send_due, flow.tell_due]) };
    };

    func delay(n : Nat32) : Nat64 { Policy.delay(p, if (n == 0) 1 else n, event.u) };
    func passed(time : ?Nat64) : Bool { switch time { case (?t) t <= now; case null false } };

    // --- States -------------------------------------------------------------------------------

    /// The lifetime since the answer is tested before any other event.
    public func expire() {
      if (flow.state == #acknowledging and passed(flow.ends)) abandoned();
    };

    func tombstoneEnds() : Nat64 { Nat64.max(observed, flow.floor) + flow.horizon };

    func stalled() {
      flow := { flow with state = #stalled; changed = now; ends = ?tombstoneEnds(); told = false };
      open(1);
    };

    func abandoned() {
      flow := { flow with state = #abandoned; changed = now; ends = ?tombstoneEnds(); send_due = null; told = false };
      open(1);
    };

    func finished() {
      flow := {
        flow with
        state = #finished;
        changed = now;
        ends = ?tombstoneEnds();
        send_due = null;
        tell_due = null;
        tries = 0 : Nat32;
        payload = null;
        response = null;
      };
    };

    /// Gives the NEW to the application's handler: try number `tries`.
    public func handOver(tries : Nat32) {
      flow := { flow with tries };
      switch (flow.payload) {
        case (?payload) emit(#hand_over {
          peer = flow.peer;
          msg_id = flow.msg_id;
          payload;
          hash = flow.payload_hash;
          redelivered = tries > 1;
          tries;
        });
        case null {};
      };
    };

    func open(tries : Nat32) {
      flow := { flow with tries; tell_due = ?(now + delay(tries)) };
      tell(if (flow.state == #stalled) #stalled else #abandoned, tries);
    };

    func tell(what : Types.Telling, tries : Nat32) {
      let response = if (what == #abandoned) flow.response else null;
      emit(#tell { role = #receiver; peer = flow.peer; msg_id = flow.msg_id; what; failure = null; response; redelivered = tries > 1; tries });
    };

    // --- NEW again and FIN ------------------------------------------------------------------------

    public func newAgain(payload : Blob) {
      let hash = Types.hash(?payload);
      if (hash != flow.payload_hash) return anotherNew(payload, hash);
      switch (flow.state) {
        case (#acknowledging or #abandoned) echoAck();
        case _ count("repeated new");
      };
    };

    func anotherNew(payload : Blob, hash : Nat32) {
      if (knows(flow.wrong_news, hash)) return count("another payload");
      flow := { flow with wrong_news = Policy.append(flow.wrong_news, hash) };
      emit(#ask {
        role = #receiver;
        peer = flow.peer;
        msg_id = flow.msg_id;
        kind = #new;
        our_payload = flow.payload;
        their_payload = ?payload;
        our_hash = flow.payload_hash;
        their_hash = hash;
        decide = false;
        tries = 1;
      });
    };

    func knows(hashes : [Nat32], hash : Nat32) : Bool {
      for (known in hashes.values()) if (known == hash) return true;
      hashes.size() >= 3;
    };

    public func fin(hash : ?Nat32) {
      switch (flow.state) {
        case (#acknowledging or #abandoned) switch hash {
          case null finished();
          case (?h) if (?h == flow.response_hash) finished() else wrongFin(h);
        };
        case _ count("fin without effect");
      };
    };

    func wrongFin(hash : Nat32) {
      if (knows(flow.wrong_fins, hash)) return count("wrong hash");
      flow := { flow with wrong_fins = Policy.append(flow.wrong_fins, hash) };
      emit(#ask {
        role = #receiver;
        peer = flow.peer;
        msg_id = flow.msg_id;
        kind = #fin;
        our_payload = flow.response;
        their_payload = null;
        our_hash = Types.hash(flow.response);
        their_hash = hash;
        decide = true;
        tries = 1;
      });
    };

    public func decide(decision : Types.Decision) {
      switch (flow.state) {
        case (#acknowledging or #abandoned) switch decision {
          case (#accept _) finished();
          case (#resend) echoAck();
          case (#abandon) if (flow.state == #acknowledging) abandoned();
        };
        case _ count("decision without question");
      };
    };

    // --- ACK --------------------------------------------------------------------------------------

    func send(echo : Bool, prior_due : ?Nat64, prior_at : ?Nat64) {
      let message = #ACK { msg_id = flow.msg_id; payload = flow.response; hash = ?flow.payload_hash };
      emit(#transmit { peer = flow.peer; dialect = flow.dialect; message; attempt = flow.attempts; echo; prior_due; prior_at });
    };

    func transmit() {
      let prior = flow.ack_at;
      flow := { flow with attempts = flow.attempts + 1; ack_at = ?now };
      flow := { flow with send_due = ?(now + delay(flow.attempts)) };
      send(false, null, prior);
    };

    func echoAck() {
      let soon = switch (flow.ack_at) { case (?at) now < at + p.echo_min; case null false };
      if (soon or flow.ack_echoes >= p.attempts + 10 or not event.room) return count("echo withheld");
      let (prior_due, prior_at) = (flow.send_due, flow.ack_at);
      flow := { flow with ack_at = ?now; ack_echoes = flow.ack_echoes + 1 };
      if (flow.state == #acknowledging) flow := { flow with send_due = ?(now + delay(flow.attempts)) };
      send(true, prior_due, prior_at);
    };

    public func notSent(t : Types.Transmit) {
      if (t.echo) {
        count("not sent");
        flow := {
          flow with
          ack_at = t.prior_at;
          ack_echoes = if (flow.ack_echoes == 0) 0 : Nat32 else flow.ack_echoes - 1;
          send_due = if (flow.state == #acknowledging) t.prior_due else flow.send_due;
        };
      } else if (flow.state == #acknowledging and t.attempt == flow.attempts) {
        count("not sent");
        flow := { flow with attempts = flow.attempts - 1; ack_at = t.prior_at; send_due = ?(now + p.send_retry) };
      } else count("outdated not sent");
    };

    public func refused() {
      if (flow.state == #acknowledging) abandoned() else count("refused");
    };

    // --- The clock ----------------------------------------------------------------------------------

    public func due(room : Bool) {
      switch (flow.state) {
        case (#processing) if (passed(flow.ends)) stalled();
        case (#acknowledging) if (passed(flow.send_due)) {
          if (flow.attempts >= p.attempts) abandoned() else if room transmit() else {
            count("no room");
            flow := { flow with send_due = ?(now + p.send_retry) };
          };
        };
        case _ {
          if (passed(flow.tell_due)) open(flow.tries + 1);
          switch (flow.ends) {
            case (?ends) if (ends <= observed) {
              if (flow.state == #stalled) tell(#forgotten, 1);
              forgotten := true;
            };
            case null {};
          };
        };
      };
    };

    public func restart(share : Nat64) {
      let later = ?(now + p.spread / 1_000_000 * share);
      flow := {
        flow with
        send_due = if (passed(flow.send_due)) later else flow.send_due;
        tell_due = switch (flow.tell_due) { case (?_) later; case null null };
      };
      if (flow.state == #processing and not flow.deferred) stalled();
    };

    // --- The application --------------------------------------------------------------------------------

    func unanswered() : Bool { flow.state == #processing or flow.state == #stalled };

    public func answer(response : ?Blob, fits : Bool) : ?Text {
      if (not unanswered()) return ?alreadyAnswered;
      if (Nat64.fromNat(Types.size(response)) > p.max_response) return ?"the answer exceeds max_response";
      if (not fits) return ?"there is no room to store this answer";
      flow := {
        flow with
        state = #acknowledging;
        changed = now;
        ends = ?(now + p.lifetime);
        tell_due = null;
        tries = 0 : Nat32;
        response;
        response_hash = ?Types.hash(response);
      };
      transmit();
      null;
    };

    public func failedForNow() : ?Text {
      if (not unanswered()) return ?alreadyAnswered;
      if (flow.paid) {
        emit(#remember_paid { peer = flow.peer; msg_id = flow.msg_id; until = now + p.lifetime });
      };
      forgotten := true;
      null;
    };

    public func deferred() : ?Text {
      if (flow.state != #processing) return ?alreadyAnswered;
      flow := { flow with deferred = true };
      null;
    };

    public func rerun() : ?Text {
      if (flow.state != #stalled) return ?"this flow is not stalled";
      flow := {
        flow with
        state = #processing;
        changed = now;
        ends = ?(now + p.answer_within);
        tell_due = null;
        deferred = false;
      };
      handOver(flow.tries + 1);
      null;
    };

    public func returned(tries : Nat32) {
      if (flow.tell_due == null or tries != flow.tries) return count("outdated return");
      flow := { flow with told = true; tell_due = null };
    };

    public func handlerFailed(tries : Nat32) {
      if (tries != flow.tries) return count("outdated failure");
      count("handler failed");
      if (flow.state == #processing and not flow.deferred) stalled();
    };
  };
};
