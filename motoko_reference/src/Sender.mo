/// The sender's table of docs/protocol.md, as one pure function.
///
/// `step` takes a flow, an event and the time, and gives the new flow and what to do. It reads no
/// clock, draws no chance, calls nobody and touches no store.

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
    switch record {
      case null absent(event, now, policy);
      case (?flow) {
        let draft = Draft(flow, event.u, now, policy);
        draft.expire();
        let refusal = present(draft, event, nullAck);
        switch refusal {
          case (?reason) #err reason;
          case null #ok { flow = draft.result(); effects = draft.effects() };
        };
      };
    };
  };

  func absent(event : Event, now : Nat64, policy : Policy.Policy) : Transition {
    switch (event.what) {
      case (#send s) {
        #ok { flow = ?settle(opened(s.peer, s.msg_id, s.payload, s.dialect, now, policy)); effects = [] };
      };
      case (#received r) switch (r.message) {
        case (#ACK ack) {
          if (Peer.classify(r.caller) != #canister or not event.room) return counted("unknown ack, silent");
          let fin : Types.Transmit = {
            peer = r.caller;
            dialect = r.dialect;
            message = #FIN { msg_id = ack.msg_id; hash = null };
            attempt = 1;
            echo = false;
            prior_due = null;
            prior_at = null;
          };
          #ok { flow = null; effects = [#count "unknown ack", #transmit fin] };
        };
        case _ counted("not for a sender");
      };
      case (#cancel or #finish or #decided _ or #retry_dead_letter or #drop_dead_letter) {
        #err "there is no such flow: it was never opened or is forgotten";
      };
      case _ counted("no such flow");
    };
  };

  func counted(reason : Text) : Transition { #ok { flow = null; effects = [#count reason] } };

  func opened(peer : Principal, id : Nat, payload : Blob, dialect : Types.Dialect, now : Nat64, policy : Policy.Policy) : Flow {
    {
      peer;
      msg_id = id;
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
  };

  /// The flow with `due` derived from its other times.
  func settle(f : Flow) : Flow {
    let ends = switch (f.state) {
      case (#failed) if (f.told and (f.late_taken or not f.late)) f.ends else null;
      case _ f.ends;
    };
    let sends = switch (f.state) { case (#queued or #sending) f.send_due; case _ null };
    { f with due = Policy.earliest([ends, sends, f.tell_due, f.fin_due]) };
  };

  func present(d : Draft, event : Event, nullAck : NullAck) : ?Text {
    switch (event.what) {
      case (#received r) {
        switch (r.message) {
          case (#ACK ack) {
            if (r.caller != d.flow.peer) d.count("spoofed ack") else d.ack(ack.payload, ack.hash, nullAck);
          };
          case _ d.count("not for a sender");
        };
        null;
      };
      case (#due) { d.due(event.room); null };
      case (#restarted { share }) { d.restart(share); null };
      case (#not_sent t) { d.notSent(t); null };
      case (#refused t) { d.refused(t); null };
      case (#rejected _) { d.count("rejected"); null };
      case (#returned { tries }) { d.returned(tries); null };
      case (#handler_failed { tries }) { d.handlerFailed(tries); null };
      case (#send s) {
        if (s.peer == d.flow.peer and samePayload(d.flow, s.payload)) null else {
          ?"this id is in use for another peer or payload";
        };
      };
      case (#cancel) d.cancel();
      case (#finish) d.finish();
      case (#decided decision) d.decide(decision);
      case (#retry_dead_letter) d.retryDeadLetter();
      case (#drop_dead_letter) d.dropDeadLetter();
      case _ { d.count("not for a sender"); null };
    };
  };

  func samePayload(f : Flow, payload : Blob) : Bool {
    switch (f.payload) {
      case (?kept) kept == payload;
      case null f.payload_hash == Types.hash(?payload);
    };
  };

  /// A flow in the making: the rows of the table are its methods.
  class Draft(initial : Flow, u : Nat64, now : Nat64, p : Policy.Policy) {
    public var flow : Flow = initial;
    var forgotten = false;
    let out = List.empty<Types.Effect>();

    public func result() : ?Flow { if forgotten null else ?settle(flow) };
    public func effects() : [Types.Effect] { List.toArray(out) };
    func emit(effect : Types.Effect) { List.add(out, effect) };
    public func count(reason : Text) { emit(#count reason) };

    func delay(n : Nat32) : Nat64 { Policy.delay(p, if (n == 0) 1 else n, u) };
    func passed(time : ?Nat64) : Bool { switch time { case (?t) t <= now; case null false } };

    // --- Ends of a flow -----------------------------------------------------------------------

    /// The lifetime is tested before any other event.
    public func expire() {
      switch (flow.state) {
        case (#queued) if (passed(flow.ends)) fail(#unsent);
        case (#sending) if (passed(flow.ends)) fail(#unknown);
        case (#corrupt) if (passed(flow.ends)) fail(#corrupt);
        case _ {};
      };
    };

    func fail(failure : Types.Failure) {
      flow := {
        flow with
        state = #failed;
        failure = ?failure;
        changed = now;
        ends = ?(now + p.retention);
        send_due = null;
        wrong_payload = null;
        wrong_hash = null;
      };
      open(1);
    };

    func answered(response : ?Blob) {
      let hash = Types.hash(response);
      flow := {
        flow with
        state = #answered;
        changed = now;
        ends = null;
        send_due = null;
        response;
        response_hash = ?hash;
        wrong_payload = null;
        wrong_hash = null;
      };
      firstFin(?hash);
      open(1);
    };

    func acknowledged() {
      flow := {
        flow with
        state = #acknowledged;
        changed = now;
        ends = ?(now + p.linger);
        tell_due = null;
        tries = 0 : Nat32;
        told = true;
        payload = null;
        response = null;
      };
    };

    func deadLetter() {
      flow := { flow with state = #dead_letter; changed = now };
      open(1);
    };

    // --- Tellings and questions -----------------------------------------------------------------

    /// Opens try number `tries` of what this state has to tell or ask.
    func open(tries : Nat32) {
      flow := { flow with tries; tell_due = ?(now + delay(tries)) };
      let redelivered = tries > 1;
      func tell(what : Types.Telling, failure : ?Types.Failure, response : ?Blob) {
        emit(#tell { role = #sender; peer = flow.peer; msg_id = flow.msg_id; what; failure; response; redelivered; tries });
      };
      switch (flow.state) {
        case (#answered) tell(#answered, null, flow.response);
        case (#dead_letter) tell(#dead_letter, null, flow.response);
        case (#failed) if (flow.told) tell(#late, flow.failure, flow.response) else tell(#failed, flow.failure, null);
        case (#corrupt) switch (flow.wrong_hash) {
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
            tries;
          });
          case null {};
        };
        case _ {};
      };
    };

    public func returned(tries : Nat32) {
      if (flow.tell_due == null or tries != flow.tries) return count("outdated return");
      switch (flow.state) {
        case (#answered) acknowledged();
        case (#failed) {
          if (flow.told) {
            flow := { flow with late_taken = true; tell_due = null; tries = 0 : Nat32 };
          } else {
            flow := { flow with told = true; tell_due = null; tries = 0 : Nat32 };
            if (flow.late) open(1);
          };
        };
        case _ flow := { flow with tell_due = null };
      };
    };

    public func handlerFailed(tries : Nat32) {
      if (flow.tell_due == null or tries != flow.tries) return count("outdated failure");
      count("handler failed");
      if (flow.state == #answered and flow.tries >= p.handler_attempts) deadLetter();
    };

    // --- The clock --------------------------------------------------------------------------------

    public func due(room : Bool) {
      switch (flow.state) {
        case (#queued or #sending) if (passed(flow.send_due)) transmit(room);
        case _ {};
      };
      if (passed(flow.tell_due)) {
        if (flow.state == #answered and flow.tries >= p.handler_attempts) deadLetter() else open(flow.tries + 1);
      };
      if (passed(flow.fin_due)) againFin();
      switch (flow.state) {
        case (#acknowledged) if (passed(flow.ends)) forgotten := true;
        case (#failed) if (passed(flow.ends) and flow.told and (flow.late_taken or not flow.late)) forgotten := true;
        case _ {};
      };
    };

    func transmit(room : Bool) {
      if (flow.attempts >= p.attempts) return fail(#unknown);
      if (not room) {
        count("no room");
        flow := { flow with send_due = ?(now + p.send_retry) };
        return;
      };
      let attempt = flow.attempts + 1;
      if (flow.state == #queued) flow := { flow with state = #sending; changed = now };
      flow := { flow with attempts = attempt; send_due = ?(now + delay(attempt)) };
      switch (flow.payload) {
        case (?payload) send(#NEW { msg_id = flow.msg_id; payload }, attempt, false, null);
        case null {};
      };
    };

    func send(message : Types.Message, attempt : Nat32, echo : Bool, prior_at : ?Nat64) {
      emit(#transmit { peer = flow.peer; dialect = flow.dialect; message; attempt; echo; prior_due = null; prior_at });
    };

    public func restart(share : Nat64) {
      let later = ?(now + p.spread / 1_000_000 * share);
      func moved(time : ?Nat64) : ?Nat64 { if (passed(time)) later else time };
      flow := {
        flow with
        send_due = moved(flow.send_due);
        fin_due = moved(flow.fin_due);
        tell_due = switch (flow.tell_due) {
          case (?_) if (flow.state == #corrupt) ?(now + delay(flow.tries)) else later;
          case null if (flow.state == #corrupt) ?(now + delay(flow.tries)) else null;
        };
      };
    };

    // --- What became of transmissions ---------------------------------------------------------------

    public func notSent(t : Types.Transmit) {
      switch (t.message) {
        case (#NEW _) {
          if (flow.state != #sending or t.attempt != flow.attempts) return count("outdated not sent");
          count("not sent");
          flow := {
            flow with
            attempts = flow.attempts - 1;
            state = if (flow.attempts == 1) #queued else #sending;
            changed = if (flow.attempts == 1) now else flow.changed;
            send_due = ?(now + p.send_retry);
          };
        };
        case (#FIN _) {
          count("not sent");
          flow := { flow with fin_at = t.prior_at };
          if (t.echo) {
            flow := { flow with fin_echoes = if (flow.fin_echoes == 0) 0 : Nat32 else flow.fin_echoes - 1 };
          } else {
            let again = now + p.send_retry;
            let left = switch (flow.fin_until) { case (?until) again < until; case null false };
            flow := { flow with fin_due = if left ?again else null };
          };
        };
        case (#ACK _) count("not for a sender");
      };
    };

    public func refused(t : Types.Transmit) {
      switch (t.message, flow.state) {
        case (#NEW _, #sending) fail(if (flow.attempts == 1) #refused else #unknown);
        case _ count("refused");
      };
    };

    // --- ACK and FIN ----------------------------------------------------------------------------------

    func right(hash : ?Nat32) : Bool {
      switch hash { case (?h) h == flow.payload_hash; case null true };
    };

    public func ack(payload : ?Blob, hash : ?Nat32, nullAck : NullAck) {
      switch (flow.state) {
        case (#queued or #sending or #corrupt) {
          if (nullAck == #receipt and Types.size(payload) == 0 and (payload == null or flow.dialect != #unified)) {
            count("receipt");
            flow := { flow with send_due = ?(now + delay(flow.attempts)) };
          } else if (right(hash)) {
            answered(payload);
          } else {
            switch hash { case (?h) wrongAck(payload, h); case null {} };
          };
        };
        case (#failed) {
          if (flow.late) { echoFin() } else if (right(hash)) {
            let response_hash = Types.hash(payload);
            flow := { flow with late = true; response = payload; response_hash = ?response_hash };
            firstFin(?response_hash);
            if (flow.told) open(1);
          } else count("wrong hash");
        };
        case _ {
          if (flow.response_hash != ?Types.hash(payload)) count("another response");
          echoFin();
        };
      };
    };

    func wrongAck(payload : ?Blob, hash : Nat32) {
      for (known in flow.wrong.values()) if (known == hash) return count("wrong hash");
      if (flow.wrong.size() >= 3) return count("wrong hash");
      if (flow.state != #corrupt) flow := { flow with state = #corrupt; changed = now };
      flow := { flow with wrong = Policy.append(flow.wrong, hash); wrong_hash = ?hash; wrong_payload = payload };
      open(1);
    };

    func firstFin(hash : ?Nat32) {
      flow := { flow with fin_due = null; fin_until = ?(now + p.linger); fin_at = ?now };
      send(#FIN { msg_id = flow.msg_id; hash }, 1, false, null);
    };

    func againFin() {
      let prior = flow.fin_at;
      flow := { flow with fin_due = null; fin_at = ?now };
      send(#FIN { msg_id = flow.msg_id; hash = flow.response_hash }, 1, false, prior);
    };

    func echoFin() {
      let soon = switch (flow.fin_at) { case (?at) now < at + p.echo_min; case null false };
      if (soon or flow.fin_echoes >= p.attempts + 10) return count("echo withheld");
      let prior = flow.fin_at;
      flow := { flow with fin_at = ?now; fin_echoes = flow.fin_echoes + 1 };
      send(#FIN { msg_id = flow.msg_id; hash = flow.response_hash }, 1, true, prior);
    };

    // --- The application and the operator ---------------------------------------------------------------

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
      if (flow.state != #corrupt) return ?"no question is open about this flow";
      switch decision {
        case (#resend) {
          flow := { flow with state = #sending; changed = now; tell_due = null; tries = 0 : Nat32; wrong_payload = null; wrong_hash = null };
        };
        case (#accept hash) {
          if (hash == null or hash != flow.wrong_hash) return ?"accept names another hash than the stored wrong ACK has";
          answered(flow.wrong_payload);
        };
        case (#abandon) {
          fail(#corrupt);
          firstFin(null);
        };
      };
      null;
    };

    public func retryDeadLetter() : ?Text {
      if (flow.state != #dead_letter) return ?"this flow is no dead letter";
      flow := { flow with state = #answered; changed = now };
      open(1);
      null;
    };

    public func dropDeadLetter() : ?Text {
      if (flow.state != #dead_letter) return ?"this flow is no dead letter";
      acknowledged();
      null;
    };
  };
};
