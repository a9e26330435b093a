/// The sender's table of docs/protocol.md, as one pure function.
///
/// `step` takes a flow, an event and the time, and gives the new flow and what to do. It reads no
/// clock, draws no chance, calls nobody and touches no store.

import Array "mo:core/Array";
import List "mo:core/List";
import Nat64 "mo:core/Nat64";
import Peer "Peer";
import Policy "Policy";
import Types "Types";

module {
  type Flow = Types.SenderFlow;
  type Event = Types.Event;
  type Transition = Types.Transition<Flow>;

  /// Whether a null response is the response of this peer, or a mere receipt.
  public type NullAck = { #response; #receipt };

  /// One step of one flow.
  ///
  /// `record` is the flow with the id that the event names, whoever the caller is; null if there is
  /// none. For an ACK that names no flow, `event.room` says whether the global rate of unknown-ACK
  /// FINs allows one.
  public func step(record : ?Flow, event : Event, now : Nat64, policy : Policy.Policy, nullAck : NullAck) : Transition {
    switch (record, event.what) {
      case (?flow, #received r) if (r.caller != flow.peer) return counted(record, "spoofed");
      case _ {};
    };
    switch record {
      case null absent(event, now, policy);
      case (?flow) {
        let draft = Draft(flow, event, now, policy);
        let over = draft.expire();
        // A flow that failed in this very step has nothing else due, and its telling is not lost.
        let refusal = switch (event.what) {
          case (#due or #restarted _) if over null else present(draft, event, nullAck);
          case _ present(draft, event, nullAck);
        };
        switch refusal {
          case (?reason) #err reason;
          case null #ok { flow = draft.result(); effects = draft.effects() };
        };
      };
    };
  };

  func counted(flow : ?Flow, reason : Text) : Transition { #ok { flow; effects = [#count reason] } };

  func absent(event : Event, now : Nat64, policy : Policy.Policy) : Transition {
    switch (event.what) {
      case (#send s) opened(s.peer, s.msg_id, s.payload, s.dialect, now, policy);
      case (#received r) switch (r.message) {
        case (#ACK ack) unknownAck(r.caller, r.dialect, ack.msg_id, event.room);
        case _ counted(null, "ignored");
      };
      case (#cancel or #finish or #retry_dead_letter or #drop_dead_letter) #err noSuchFlow;
      case (#not_sent _ or #returned _ or #handler_failed _) counted(null, "outdated");
      case (#refused _ or #rejected _) counted(null, "rejected");
      case _ counted(null, "ignored");
    };
  };

  let noSuchFlow = "there is no such flow: it was forgotten, or its id is wrong";

  func unknownAck(caller : Principal, dialect : Types.Dialect, msg_id : Nat, room : Bool) : Transition {
    if (not room or Peer.classify(caller) != #canister) return counted(null, "unknown_ack");
    let fin : Types.Transmit = {
      peer = caller;
      dialect;
      message = #FIN { msg_id; hash = null };
      attempt = 1;
      echo = false;
      prior_due = null;
      prior_at = null;
    };
    #ok { flow = null; effects = [#transmit fin, #count "unknown_ack"] };
  };

  func opened(peer : Principal, msg_id : Nat, payload : Blob, dialect : Types.Dialect, now : Nat64, policy : Policy.Policy) : Transition {
    if (msg_id >= Types.idLimit) return #err "an id must be below 2^128";
    if (Nat64.fromNat(payload.size()) > policy.max_payload) return #err "the payload exceeds max_payload: send a reference to large data";
    if (Peer.classify(peer) == #other) return #err "a peer must be a canister or an agent's own principal";
    let flow : Flow = {
      peer;
      msg_id;
      dialect;
      state = #queued;
      failure = null;
      late = false;
      payload = ?payload;
      payload_hash = Types.hash(?payload);
      response = null;
      response_hash = null;
      attempts = 0;
      opened = now;
      changed = now;
      ends = ?(now + policy.lifetime);
      send_due = ?now;
      tell_due = null;
      tries = 0;
      told = false;
      late_taken = false;
      fin_due = null;
      fin_until = null;
      fin_at = null;
      fin_echoes = 0;
      wrong = [];
      wrong_hash = null;
      wrong_payload = null;
      due = null;
    };
    #ok { flow = ?settled(flow); effects = [] };
  };

  /// What the application, or for a dead letter the operator, has yet to take.
  public func pending(f : Flow) : ?Types.Telling {
    switch (f.state) {
      case (#answered) ?#answered;
      case (#dead_letter) if (f.told) null else ?#dead_letter;
      case (#failed) if (not f.told) ?#failed else if (f.late and not f.late_taken) ?#late else null;
      case _ null;
    };
  };

  /// Whether this telling or question, not yet made, is still wanted.
  public func isOpen(flow : ?Flow, work : Types.Work) : Bool {
    let ?f = flow else return false;
    switch work {
      case (#tell of) ?of.what == pending(f) and of.tries == f.tries;
      case (#ask of) f.state == #corrupt and ?of.their_hash == f.wrong_hash and of.tries == f.tries;
      case (#hand_over _) false;
    };
  };

  /// The flow with `due` derived from its other times.
  func settled(f : Flow) : Flow {
    let ends = if (f.state == #failed and pending(f) != null) null else f.ends;
    let sends = switch (f.state) { case (#queued or #sending) f.send_due; case _ null };
    { f with due = Policy.earliest([ends, sends, f.tell_due, f.fin_due]) };
  };

  func present(d : Draft, event : Event, nullAck : NullAck) : ?Text {
    switch (event.what) {
      case (#received r) switch (r.message) {
        case (#ACK ack) { d.ack(ack.payload, ack.hash, r.dialect, nullAck); null };
        case _ d.ignored();
      };
      case (#due) { d.due(); null };
      case (#restarted { share }) { d.restart(share); null };
      case (#not_sent t) { d.notSent(t); null };
      case (#refused t) { d.refused(t); null };
      case (#rejected _) { d.count("rejected"); null };
      case (#returned of) { d.returned(of); null };
      case (#handler_failed(#tell of)) { d.tellingFailed(of); null };
      case (#handler_failed(#ask of)) { d.questionFailed(of); null };
      case (#handler_failed _) { d.count("outdated"); null };
      case (#send s) {
        if (s.peer == d.flow.peer and samePayload(d.flow, s.payload)) null else {
          ?"this id is used by a flow with another peer or payload: take a fresh id";
        };
      };
      case (#cancel) d.cancel();
      case (#finish) d.finish();
      case (#decided decision) d.decide(decision);
      case (#retry_dead_letter) d.retryDeadLetter();
      case (#drop_dead_letter) d.dropDeadLetter();
      case (#answer _ or #failed_for_good _ or #failed_for_now or #rerun) ?"this is a sender's flow";
      case (#deferred) d.ignored();
    };
  };

  func samePayload(f : Flow, payload : Blob) : Bool {
    switch (f.payload) {
      case (?kept) kept == payload;
      case null f.payload_hash == Types.hash(?payload);
    };
  };

  /// A flow in the making: the rows of the table are its methods.
  class Draft(initial : Flow, event : Event, now : Nat64, p : Policy.Policy) {
    public var flow : Flow = initial;
    var forgotten = false;
    let out = List.empty<Types.Effect>();

    public func result() : ?Flow { if forgotten null else ?settled(flow) };
    public func effects() : [Types.Effect] { List.toArray(out) };
    func emit(effect : Types.Effect) { List.add(out, effect) };
    public func count(reason : Text) { emit(#count reason) };
    public func ignored() : ?Text { count("ignored"); null };

    func delay(n : Nat32) : Nat64 { Policy.delay(p, if (n == 0) 1 else n, event.u) };
    func passed(time : ?Nat64) : Bool { switch time { case (?t) t <= now; case null false } };

    /// Changes the state; what belongs to the state that is left goes with it.
    func enter(state : Types.State) {
      flow := {
        flow with
        state;
        changed = now;
        tell_due = null;
        tries = 0 : Nat32;
        wrong_hash = null;
        wrong_payload = null;
      };
    };

    // --- Ends of a flow ---------------------------------------------------------------------------

    /// The lifetime is tested before any other event. True if it was over.
    public func expire() : Bool {
      if (not passed(flow.ends)) return false;
      switch (flow.state) {
        case (#queued) fail(#unsent);
        case (#sending) fail(#unknown);
        case (#corrupt) fail(#corrupt);
        case _ return false;
      };
      true;
    };

    func fail(failure : Types.Failure) {
      enter(#failed);
      flow := { flow with failure = ?failure; send_due = null; ends = ?(now + p.retention) };
      openTelling(false);
    };

    func answered(response : ?Blob) {
      enter(#answered);
      flow := {
        flow with
        response;
        response_hash = ?Types.hash(response);
        send_due = null;
        ends = null;
        fin_until = ?(now + p.linger);
      };
      fin(false);
      openTelling(false);
    };

    func acknowledged() {
      enter(#acknowledged);
      flow := { flow with payload = null; response = null; told = true; ends = ?(now + p.linger) };
    };

    func deadLetter() {
      enter(#dead_letter);
      openTelling(false);
    };

    // --- Tellings and questions ---------------------------------------------------------------------

    func tell(redelivered : Bool) {
      switch (pending(flow)) {
        case (?what) emit(#tell {
          role = #sender;
          peer = flow.peer;
          msg_id = flow.msg_id;
          what;
          failure = if (what == #failed) flow.failure else null;
          response = if (what == #failed) null else flow.response;
          redelivered;
          tries = flow.tries;
        });
        case null {};
      };
    };

    func openTelling(redelivered : Bool) {
      flow := { flow with tries = 1 : Nat32; tell_due = null };
      tell(redelivered);
    };

    func again() { flow := { flow with tell_due = ?(now + delay(flow.tries)) } };

    func isOpen(of : { what : Types.Telling; tries : Nat32 }) : Bool {
      ?of.what == pending(flow) and of.tries == flow.tries;
    };

    public func returned(of : { what : Types.Telling; tries : Nat32 }) {
      if (not isOpen(of)) return count("outdated");
      if (flow.state == #answered) return acknowledged();
      flow := { flow with late_taken = flow.told; told = true; tries = 0 : Nat32; tell_due = null };
      if (pending(flow) != null) openTelling(false);
    };

    public func tellingFailed(of : { what : Types.Telling; tries : Nat32 }) {
      if (not isOpen(of)) return count("outdated");
      if (flow.state == #answered and flow.tries >= p.handler_attempts) deadLetter() else again();
    };

    public func questionFailed(of : { their_hash : Nat32; tries : Nat32 }) {
      if (flow.state != #corrupt or ?of.their_hash != flow.wrong_hash or of.tries != flow.tries) return count("outdated");
      again();
    };

    func ask() {
      switch (flow.wrong_hash) {
        case (?their_hash) emit(#ask {
          role = #sender;
          peer = flow.peer;
          msg_id = flow.msg_id;
          kind = #ack;
          our_payload = flow.payload;
          their_payload = flow.wrong_payload;
          our_hash = flow.payload_hash;
          their_hash;
          decide = true;
          tries = flow.tries;
        });
        case null {};
      };
    };

    // --- The clock ------------------------------------------------------------------------------------

    /// Several times may have come: each has its turn, until one changes the state.
    public func due() {
      let state = flow.state;
      switch state {
        case (#queued or #sending) if (passed(flow.send_due)) transmit();
        case (#corrupt) if (passed(flow.tell_due)) {
          flow := { flow with tell_due = null; tries = flow.tries + 1 };
          ask();
        };
        case (#answered) if (passed(flow.tell_due) and flow.tries >= p.handler_attempts) deadLetter();
        case (#acknowledged) forgotten := passed(flow.ends);
        case (#failed) forgotten := passed(flow.ends) and pending(flow) == null;
        case _ {};
      };
      if (forgotten or flow.state != state) return;
      if (passed(flow.fin_due)) {
        if (passed(flow.fin_until)) {
          flow := { flow with fin_due = null };
          count("fin_given_up");
        } else fin(false);
      };
      if (passed(flow.tell_due)) switch state {
        case (#answered or #dead_letter or #failed) {
          flow := { flow with tries = flow.tries + 1; tell_due = null };
          tell(true);
        };
        case _ {};
      };
    };

    func transmit() {
      if (flow.state == #sending and flow.attempts >= p.attempts) return fail(#unknown);
      if (not event.room) {
        flow := { flow with send_due = ?(now + p.send_retry) };
        return;
      };
      if (flow.state == #queued) enter(#sending);
      let attempt = flow.attempts + 1;
      flow := { flow with attempts = attempt; send_due = ?(now + delay(attempt)) };
      switch (flow.payload) {
        case (?payload) emit(#transmit {
          peer = flow.peer;
          dialect = flow.dialect;
          message = #NEW { msg_id = flow.msg_id; payload };
          attempt;
          echo = false;
          prior_due = null;
          prior_at = null;
        });
        case null {};
      };
    };

    public func restart(share : Nat64) {
      let later = ?(now + Policy.part(p.spread, share));
      if (flow.state == #corrupt and flow.tell_due == null) again();
      let tell_due = if (flow.tell_due == null and pending(flow) != null) later else flow.tell_due;
      func moved(time : ?Nat64) : ?Nat64 { if (passed(time)) later else time };
      flow := { flow with send_due = moved(flow.send_due); tell_due = moved(tell_due); fin_due = moved(flow.fin_due) };
    };

    // --- What became of transmissions -------------------------------------------------------------------

    public func notSent(t : Types.Transmit) {
      switch (t.message) {
        case (#NEW _) {
          if (flow.state != #sending or t.attempt != flow.attempts) return count("outdated");
          let left = flow.attempts - 1;
          if (left == 0) enter(#queued);
          flow := { flow with attempts = left; send_due = ?(now + p.send_retry) };
        };
        case (#FIN f) {
          // A FIN for what stands: the response, or none after an abandon.
          if (flow.fin_until == null or f.hash != flow.response_hash) return count("outdated");
          flow := { flow with fin_at = t.prior_at; fin_due = ?(now + p.send_retry) };
        };
        case (#ACK _) count("outdated");
      };
    };

    public func refused(t : Types.Transmit) {
      switch (t.message, flow.state) {
        case (#NEW _, #sending) fail(if (flow.attempts == 1) #refused else #unknown);
        case _ count("rejected");
      };
    };

    // --- ACK and FIN --------------------------------------------------------------------------------------

    func right(hash : ?Nat32) : Bool { hash == null or hash == ?flow.payload_hash };

    public func ack(payload : ?Blob, hash : ?Nat32, dialect : Types.Dialect, nullAck : NullAck) {
      let isNull = payload == null or (dialect != #unified and Types.size(payload) == 0);
      let receipt = isNull and nullAck == #receipt;
      if receipt count("receipt");
      switch (flow.state) {
        case (#queued or #sending or #corrupt) {
          if receipt {
            flow := { flow with send_due = ?(now + delay(flow.attempts)) };
          } else if (right(hash)) answered(payload) else switch hash {
            case (?h) wrongAck(payload, h);
            case null {};
          };
        };
        case _ if (not receipt) ackAgain(payload, hash);
      };
    };

    func ackAgain(payload : ?Blob, hash : ?Nat32) {
      if (flow.state == #failed and not flow.late) {
        if (right(hash)) lateResponse(payload) else count("wrong_hash");
        return;
      };
      echoFin();
      if (?Types.hash(payload) != flow.response_hash) count("other_payload");
    };

    func lateResponse(response : ?Blob) {
      flow := {
        flow with
        changed = now;
        late = true;
        response;
        response_hash = ?Types.hash(response);
        ends = ?(now + p.retention);
        fin_until = ?(now + p.linger);
      };
      fin(false);
      if (flow.told) openTelling(false);
    };

    func wrongAck(payload : ?Blob, hash : Nat32) {
      if (flow.wrong.size() >= 3 or Array.find<Nat32>(flow.wrong, func known = known == hash) != null) {
        return count("wrong_hash_again");
      };
      if (flow.state != #corrupt) enter(#corrupt);
      flow := {
        flow with
        wrong = Array.concat(flow.wrong, [hash]);
        wrong_hash = ?hash;
        wrong_payload = payload;
        tell_due = null;
        tries = 1 : Nat32;
      };
      ask();
    };

    /// FIN for what was accepted; if there is no room, later.
    func fin(echo : Bool) {
      if (not event.room) {
        flow := { flow with fin_due = ?(now + p.send_retry) };
        return;
      };
      emit(#transmit {
        peer = flow.peer;
        dialect = flow.dialect;
        message = #FIN { msg_id = flow.msg_id; hash = flow.response_hash };
        attempt = 1;
        echo;
        prior_due = null;
        prior_at = flow.fin_at;
      });
      flow := { flow with fin_at = ?now; fin_due = null };
    };

    func echoFin() {
      let soon = switch (flow.fin_at) { case (?at) now < at + p.echo_min; case null false };
      if (soon or not event.room or flow.fin_echoes >= p.attempts + 10) return count("echo_suppressed");
      flow := { flow with fin_echoes = flow.fin_echoes + 1; fin_until = ?(now + p.linger) };
      fin(true);
    };

    // --- The application and the operator -------------------------------------------------------------------

    public func cancel() : ?Text {
      switch (flow.state) {
        case (#queued) { fail(#unsent); null };
        case (#sending or #corrupt) { fail(#cancelled); null };
        case _ ?"this flow has ended: there is nothing to cancel";
      };
    };

    public func finish() : ?Text {
      switch (flow.state) {
        case (#answered or #dead_letter) { acknowledged(); null };
        case _ ?"this flow holds no response that waits for finish";
      };
    };

    public func decide(decision : Types.Decision) : ?Text {
      if (flow.state != #corrupt) return ignored();
      switch decision {
        case (#resend) enter(#sending);
        case (#accept hash) {
          if (hash != flow.wrong_hash) return ?"no ACK with this hash is stored: accept the hash of the latest question";
          answered(flow.wrong_payload);
        };
        case (#abandon) {
          flow := { flow with fin_until = ?(now + p.linger) };
          fin(false);
          fail(#corrupt);
        };
      };
      null;
    };

    public func retryDeadLetter() : ?Text {
      if (flow.state != #dead_letter) return ?"this flow is no dead letter";
      enter(#answered);
      flow := { flow with told = false };
      openTelling(true);
      null;
    };

    public func dropDeadLetter() : ?Text {
      if (flow.state != #dead_letter) return ?"this flow is no dead letter";
      acknowledged();
      null;
    };
  };
};
