/// The receiver's table of docs/protocol.md, as one pure function.
///
/// `step` takes a flow, an event and the time, and gives the new flow and what to do. It reads no
/// clock, draws no chance, calls nobody and touches no store. Tombstones age by observed time, which
/// is `event.lag` behind the clock.

import Array "mo:core/Array";
import List "mo:core/List";
import Nat64 "mo:core/Nat64";
import Policy "Policy";
import Types "Types";

module {
  type Flow = Types.ReceiverFlow;
  type Event = Types.Event;
  type Transition = Types.Transition<Flow>;

  /// One step of one flow. `record` is the flow of (caller, msg_id), or null. `rerun` says that
  /// handlers are idempotent, so that what was interrupted runs again at once.
  public func step(record : ?Flow, event : Event, now : Nat64, policy : Policy.Policy, rerun : Bool) : Transition {
    switch (record, event.what) {
      case (?flow, #received r) if (r.caller != flow.peer) return #ok { flow = record; effects = [#count "spoofed"] };
      case _ {};
    };
    switch record {
      case null absent(event, now, policy);
      case (?flow) {
        let draft = Draft(flow, event, now, policy, rerun);
        switch (present(draft, event)) {
          case (?reason) #err reason;
          case null #ok { flow = draft.result(); effects = draft.effects() };
        };
      };
    };
  };

  func counted(reason : Text) : Transition { #ok { flow = null; effects = [#count reason] } };

  func absent(event : Event, now : Nat64, policy : Policy.Policy) : Transition {
    switch (event.what) {
      case (#received r) switch (r.message) {
        case (#NEW new) switch (r.refused) {
          case (?reason) counted("refused." # reason);
          case null {
            let draft = Draft(opened(r, new, now, policy), event, now, policy, false);
            draft.handOver(false);
            #ok { flow = draft.result(); effects = draft.effects() };
          };
        };
        case (#FIN _) counted("unknown_fin");
        case _ counted("ignored");
      };
      case (#answer _ or #failed_for_good _ or #failed_for_now or #rerun) {
        #err "there is no such flow: it was forgotten, or it never came";
      };
      case (#not_sent _ or #returned _ or #handler_failed _) counted("outdated");
      case (#refused _ or #rejected _) counted("rejected");
      case _ counted("ignored");
    };
  };

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
      tries = 1;
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

  /// What the application has yet to take.
  public func pending(f : Flow) : ?Types.Telling {
    switch (f.state) {
      case (#stalled) if (f.told) null else ?#stalled;
      case (#abandoned) if (f.told) null else ?#abandoned;
      case _ null;
    };
  };

  /// Whether this handing over, telling or question, not yet made, is still wanted.
  public func isOpen(flow : ?Flow, work : Types.Work) : Bool {
    switch (work, flow) {
      case (#tell { what = #forgotten }, _) true; // told when nothing is stored any more
      case (_, null) false;
      case (#tell of, ?f) ?of.what == pending(f) and of.tries == f.tries;
      case (#hand_over of, ?f) f.state == #processing and of.tries == f.tries;
      case (#ask _, ?_) true;
    };
  };

  func present(d : Draft, event : Event) : ?Text {
    switch (event.what) {
      case (#received r) {
        switch (r.message) {
          case (#NEW new) d.newAgain(new.payload);
          case (#FIN fin) d.fin(fin.hash);
          case (#ACK _) d.count("ignored");
        };
        null;
      };
      case (#due) { d.due(); null };
      case (#restarted { share }) { d.restart(share); null };
      case (#not_sent t) { d.notSent(t); null };
      case (#refused t) { d.refused(t); null };
      case (#rejected _) { d.count("rejected"); null };
      case (#returned of) { d.returned(of); null };
      case (#handler_failed(#hand_over of)) { d.handlerFailed(of); null };
      case (#handler_failed(#tell of)) { d.tellingFailed(of); null };
      case (#handler_failed _) { d.count("outdated"); null };
      case (#decided decision) { d.decide(decision); null };
      case (#answer { response; fits }) d.answer(response, fits);
      case (#failed_for_good { response; fits }) d.answer(response, fits);
      case (#failed_for_now) d.failedForNow();
      case (#deferred) { d.deferred(); null };
      case (#rerun) d.rerunStalled();
      case (#send _ or #cancel or #finish or #retry_dead_letter or #drop_dead_letter) ?"this is a receiver's flow";
    };
  };

  let answeredBefore = "this flow has its answer already: the first one stands";

  /// A flow in the making: the rows of the table are its methods.
  class Draft(initial : Flow, event : Event, now : Nat64, p : Policy.Policy, rerun : Bool) {
    public var flow : Flow = initial;
    var forgotten = false;
    let out = List.empty<Types.Effect>();
    let observed : Nat64 = if (event.lag < now) now - event.lag else 0;

    public func effects() : [Types.Effect] { List.toArray(out) };
    func emit(effect : Types.Effect) { List.add(out, effect) };
    public func count(reason : Text) { emit(#count reason) };

    /// The new flow, with `due` derived from its other times.
    public func result() : ?Flow {
      if forgotten return null;
      let ends = switch (flow.state, flow.ends) {
        case (#processing or #acknowledging, ends) ends;
        case (_, ?time) ?(time + event.lag);
        case (_, null) null;
      };
      ?{ flow with due = Policy.earliest([ends, flow.send_due, flow.tell_due]) };
    };

    func delay(n : Nat32) : Nat64 { Policy.delay(p, if (n == 0) 1 else n, event.u) };
    func passed(time : ?Nat64) : Bool { switch time { case (?t) t <= now; case null false } };

    // --- States -----------------------------------------------------------------------------------

    /// Changes the state; what belongs to the state that is left goes with it.
    func enter(state : Types.State) {
      flow := { flow with state; changed = now; tell_due = null; tries = 0 : Nat32; told = false; send_due = null };
    };

    /// Enters a state that is kept for `horizon` of observed time. A shorter horizon than the one in
    /// force when the flow came does not hold for it.
    func enterTombstone(state : Types.State) {
      enter(state);
      flow := { flow with ends = ?(Nat64.max(observed, flow.floor) + Nat64.max(flow.horizon, p.horizon)) };
    };

    /// No handler works on it any more.
    func stalled() {
      enterTombstone(#stalled);
      flow := { flow with tries = 1 : Nat32 };
      tell(false);
    };

    /// The response was never confirmed; it is kept.
    func abandoned() {
      enterTombstone(#abandoned);
      flow := { flow with tries = 1 : Nat32 };
      tell(false);
    };

    func finished() {
      enterTombstone(#finished);
      flow := { flow with payload = null; response = null };
    };

    // --- Handing over and telling -------------------------------------------------------------------

    /// Gives the NEW to the application's handler.
    public func handOver(redelivered : Bool) {
      switch (flow.payload) {
        case (?payload) emit(#hand_over {
          peer = flow.peer;
          msg_id = flow.msg_id;
          payload;
          hash = flow.payload_hash;
          redelivered;
          tries = flow.tries;
        });
        case null {};
      };
    };

    func runAgain() {
      let ends = ?(now + p.answer_within);
      if (flow.state == #stalled) {
        enter(#processing);
        flow := { flow with ends; tries = 1 : Nat32; deferred = false };
      } else {
        flow := { flow with ends; tries = flow.tries + 1 };
      };
      handOver(true);
    };

    func mayRerun() : Bool { rerun and flow.tries < p.handler_attempts };

    func tell(redelivered : Bool) {
      switch (pending(flow)) {
        case (?what) emit(#tell {
          role = #receiver;
          peer = flow.peer;
          msg_id = flow.msg_id;
          what;
          failure = null;
          response = flow.response;
          redelivered;
          tries = flow.tries;
        });
        case null {};
      };
    };

    func isOpen(of : { what : Types.Telling; tries : Nat32 }) : Bool {
      ?of.what == pending(flow) and of.tries == flow.tries;
    };

    public func returned(of : { what : Types.Telling; tries : Nat32 }) {
      if (not isOpen(of)) return count("outdated");
      flow := { flow with told = true; tries = 0 : Nat32; tell_due = null };
    };

    public func tellingFailed(of : { what : Types.Telling; tries : Nat32 }) {
      if (not isOpen(of)) return count("outdated");
      flow := { flow with tell_due = ?(now + delay(flow.tries)) };
    };

    public func handlerFailed(of : { tries : Nat32 }) {
      if (flow.state != #processing or of.tries != flow.tries) return count("outdated");
      if (mayRerun()) runAgain() else stalled();
    };

    // --- NEW again ------------------------------------------------------------------------------------

    public func newAgain(payload : Blob) {
      let hash = Types.hash(?payload);
      if (hash != flow.payload_hash) return anotherNew(payload, hash);
      switch (flow.state) {
        case (#acknowledging or #abandoned) echoAck();
        case _ count("repeated");
      };
    };

    func isNews(hashes : [Nat32], hash : Nat32) : Bool {
      hashes.size() < 3 and Array.find<Nat32>(hashes, func known = known == hash) == null;
    };

    func anotherNew(payload : Blob, hash : Nat32) {
      if (not isNews(flow.wrong_news, hash)) return count("wrong_hash_again");
      flow := { flow with wrong_news = Array.concat(flow.wrong_news, [hash]) };
      ask(#new, flow.payload, ?payload, flow.payload_hash, hash, false);
    };

    func ask(kind : Types.Kind, our_payload : ?Blob, their_payload : ?Blob, our_hash : Nat32, their_hash : Nat32, decide : Bool) {
      emit(#ask {
        role = #receiver;
        peer = flow.peer;
        msg_id = flow.msg_id;
        kind;
        our_payload;
        their_payload;
        our_hash;
        their_hash;
        decide;
        tries = 1;
      });
    };

    // --- FIN --------------------------------------------------------------------------------------------

    public func fin(hash : ?Nat32) {
      switch (flow.state, hash) {
        case (#acknowledging or #abandoned, ?h) if (?h == flow.response_hash) finished() else wrongFin(h);
        case (#acknowledging or #abandoned, null) finished();
        case _ count("fin_ignored");
      };
    };

    func wrongFin(hash : Nat32) {
      if (not isNews(flow.wrong_fins, hash)) return count("wrong_hash_again");
      flow := { flow with wrong_fins = Array.concat(flow.wrong_fins, [hash]) };
      ask(#fin, flow.response, null, Types.hash(flow.response), hash, true);
    };

    public func decide(decision : Types.Decision) {
      switch (flow.state, decision) {
        case (#acknowledging or #abandoned, #accept _) finished();
        case (#acknowledging or #abandoned, #resend) echoAck();
        case (#acknowledging, #abandon) abandoned();
        case _ count("ignored");
      };
    };

    // --- ACK ----------------------------------------------------------------------------------------------

    func transmit(attempt : Nat32, echo : Bool) {
      emit(#transmit {
        peer = flow.peer;
        dialect = flow.dialect;
        message = #ACK { msg_id = flow.msg_id; payload = flow.response; hash = ?flow.payload_hash };
        attempt;
        echo;
        prior_due = if echo flow.send_due else null;
        prior_at = flow.ack_at;
      });
    };

    func nextAck() {
      if (not event.room) {
        flow := { flow with send_due = ?(now + p.send_retry) };
        return;
      };
      let attempt = flow.attempts + 1;
      transmit(attempt, false);
      flow := { flow with attempts = attempt; send_due = ?(now + delay(attempt)); ack_at = ?now };
    };

    func echoAck() {
      let soon = switch (flow.ack_at) { case (?at) now < at + p.echo_min; case null false };
      if (soon or not event.room or flow.ack_echoes >= p.attempts + 10) return count("echo_suppressed");
      transmit(flow.attempts, true);
      flow := {
        flow with
        ack_at = ?now;
        ack_echoes = flow.ack_echoes + 1;
        send_due = if (flow.send_due == null) null else ?(now + delay(flow.attempts));
      };
    };

    public func notSent(t : Types.Transmit) {
      let isLatest = switch (t.message) { case (#ACK _) t.attempt == flow.attempts; case _ false };
      switch (flow.state) {
        case (#acknowledging or #abandoned) if (isLatest and t.echo) {
          flow := {
            flow with
            ack_at = t.prior_at;
            ack_echoes = if (flow.ack_echoes == 0) 0 : Nat32 else flow.ack_echoes - 1;
            send_due = if (flow.send_due != null and t.prior_due != null) t.prior_due else flow.send_due;
          };
          return;
        };
        case _ {};
      };
      if (flow.state != #acknowledging or not isLatest or flow.attempts == 0) return count("outdated");
      flow := { flow with attempts = flow.attempts - 1; ack_at = t.prior_at; send_due = ?(now + p.send_retry) };
    };

    public func refused(t : Types.Transmit) {
      switch (flow.state, t.message) {
        case (#acknowledging, #ACK _) abandoned();
        case _ count("rejected");
      };
    };

    // --- The clock ------------------------------------------------------------------------------------------

    public func due() {
      switch (flow.state) {
        case (#processing) if (passed(flow.ends)) stalled();
        case (#acknowledging) {
          if (passed(flow.ends)) abandoned() else if (passed(flow.send_due)) {
            if (flow.attempts >= p.attempts) abandoned() else nextAck();
          };
        };
        case _ {
          switch (flow.ends) { case (?ends) forgotten := ends <= observed; case null {} };
          if forgotten {
            if (flow.state == #stalled) emit(#tell {
              role = #receiver;
              peer = flow.peer;
              msg_id = flow.msg_id;
              what = #forgotten;
              failure = null;
              response = null;
              redelivered = false;
              tries = 1;
            });
          } else if (passed(flow.tell_due)) {
            flow := { flow with tries = flow.tries + 1; tell_due = null };
            tell(true);
          };
        };
      };
    };

    public func restart(share : Nat64) {
      if (flow.state == #processing and not flow.deferred) {
        return if (mayRerun()) runAgain() else stalled();
      };
      let later = ?(now + Policy.part(p.spread, share));
      let tell_due = if (flow.tell_due == null and pending(flow) != null) later else flow.tell_due;
      func moved(time : ?Nat64) : ?Nat64 { if (passed(time)) later else time };
      flow := { flow with send_due = moved(flow.send_due); tell_due = moved(tell_due) };
    };

    // --- The application --------------------------------------------------------------------------------------

    func unanswered() : Bool { flow.state == #processing or flow.state == #stalled };

    public func answer(response : ?Blob, fits : Bool) : ?Text {
      if (not unanswered()) return ?answeredBefore;
      if (Nat64.fromNat(Types.size(response)) > p.max_response) return ?"the answer exceeds max_response: answer with a reference to large data";
      if (not fits) return ?"the quotas have no room for this answer";
      enter(#acknowledging);
      flow := { flow with response; response_hash = ?Types.hash(response); ends = ?(now + p.lifetime) };
      nextAck();
      null;
    };

    public func failedForNow() : ?Text {
      if (not unanswered()) return ?answeredBefore;
      if (flow.paid) {
        emit(#remember_paid { peer = flow.peer; msg_id = flow.msg_id; until = now + p.lifetime });
      };
      forgotten := true;
      null;
    };

    public func deferred() {
      if (flow.state != #processing) return count("ignored");
      flow := { flow with deferred = true };
    };

    public func rerunStalled() : ?Text {
      if (flow.state != #stalled) return ?"this flow is not stalled";
      runAgain();
      null;
    };
  };
};
