/// The shell around the tables: calls, one timer, cycles, randomness.
///
/// A step is: read the flow, ask the table, store, carry the effects out. All of that is one message,
/// so that a trap undoes the flow and its transmissions together. Nothing is awaited from a peer.

import Cycles "mo:core/Cycles";
import Error "mo:core/Error";
import InternetComputer "mo:core/InternetComputer";
import Map "mo:core/Map";
import Nat "mo:core/Nat";
import Nat32 "mo:core/Nat32";
import Nat64 "mo:core/Nat64";
import Principal "mo:core/Principal";
import Runtime "mo:core/Runtime";
import Set "mo:core/Set";
import Time "mo:core/Time";
import Timer "mo:core/Timer";
import Prim "mo:⛔"; // for this canister's own principal, which mo:core does not offer
import Access "Access";
import Admission "Admission";
import App "Application";
import Calls "Calls";
import Forwards "Forwards";
import InFlight "InFlight";
import Install "Install";
import Order "Order";
import Layouts "Layouts";
import Outbox "Outbox";
import OutboxPage "OutboxPage";
import Peer "Peer";
import Peers "Peers";
import Policy "Policy";
import Receiver "Receiver";
import Sender "Sender";
import Store "Store";
import Turns "Turns";
import Types "Types";
import Ulid "Ulid";

module {
  type Outcome<T> = Policy.Outcome<T>;

  public let agentsOnly = "only agents on this canister's access list have an outbox";
  public let monitorsOnly = "only controllers and listed monitors may watch this canister";
  public let controllersOnly = "only controllers may configure this canister";

  let management = actor "aaaaa-aa" : actor { raw_rand : () -> async Blob };

  /// One Async Flow node: a sender, a receiver or both.
  ///
  /// Create it in a `transient let` of a persistent actor, from what a stable variable keeps. A bad
  /// install argument traps with the reason.
  public class Node<system>(kept : Layouts.Kept, app : App.Application, install : ?Install.Install) {
    let s = switch kept {
      case (#v2 state) state;
      case (#v1 _) Runtime.trap("the state is of an older layout: assign AsyncFlow.upToDate(flows) to flows first");
    };
    var armed : ?(Nat64, Timer.TimerId) = null;
    let me = Prim.getSelfPrincipal<system>();
    var seedDue : Nat64 = 0;
    let isSender = switch (app.outcome) { case (?_) true; case null false };
    let isReceiver = switch (app.handler) { case (?_) true; case null false };

    /// What is stored, for the library's own mixins: an application has no need to look into it.
    public let state = s;

    func clock() : Nat64 { Nat64.fromIntWrap(Time.now()) };

    func observe() : Nat64 {
      let now = clock();
      Store.observe(s, now);
      now;
    };

    func event(what : Types.What, room : Bool) : Types.Event {
      { u = Ulid.below(s.ids, Policy.maxJitter(s.policy)); lag = s.clock.lag; room; what };
    };

    let calls = Calls.Calls(s, clock);
    let forwards = Forwards.Forwards(clock);
    func hasRoom(peer : Principal) : Bool { calls.hasRoom(peer) };

    func roomOf(key : Types.Key) : Bool {
      switch key {
        case (#sender id) switch (senderFlow(id)) { case (?f) hasRoom(f.peer); case null true };
        case (#receiver(sender, _)) hasRoom(sender);
      };
    };

    func nullAck(flow : ?Types.SenderFlow) : Sender.NullAck {
      switch flow { case (?f) Peers.nullAck(s.peers, f.peer); case null #response };
    };

    // --- One step of one flow -----------------------------------------------------------------------

    func onSender(id : Nat, what : Types.What, room : Bool) : async* Outcome<()> {
      let now = clock();
      let old = Map.get(s.senders, Nat.compare, id);
      switch (Sender.step(old, event(what, room), now, s.policy, nullAck(old))) {
        case (#err reason) #err reason;
        case (#ok t) {
          Store.putSender(s, id, old, t.flow, now, why(what));
          await* carryOut(#sender id, t.effects, false);
          #ok;
        };
      };
    };

    /// `direct`: a synchronous handler runs in this very message.
    func onReceiver(key : (Principal, Nat), what : Types.What, room : Bool, direct : Bool) : async* Outcome<()> {
      let now = clock();
      let old = Map.get(s.receivers, Order.peerId, key);
      switch (Receiver.step(old, event(what, room), now, s.policy, app.rerun)) {
        case (#err reason) #err reason;
        case (#ok t) {
          Store.putReceiver(s, key, old, t.flow, now, why(what));
          await* carryOut(#receiver key, t.effects, direct);
          #ok;
        };
      };
    };

    func on(key : Types.Key, what : Types.What, room : Bool) : async* () {
      ignore switch key {
        case (#sender id) await* onSender(id, what, room);
        case (#receiver k) await* onReceiver(k, what, room, false);
      };
    };

    func why(what : Types.What) : Text {
      switch what {
        case (#received r) switch (r.message) { case (#NEW _) "NEW"; case (#ACK _) "ACK"; case (#FIN _) "FIN" };
        case (#due) "due";
        case (#restarted _) "restart";
        case (#not_sent _) "not sent";
        case (#refused _) "refused";
        case (#rejected _) "rejected";
        case (#send _) "send";
        case (#cancel) "cancel";
        case (#returned _) "application returned";
        case (#handler_failed _) "application failed";
        case (#finish) "finish";
        case (#decided _) "decision";
        case (#retry_dead_letter) "operator: retry";
        case (#drop_dead_letter) "operator: drop";
        case (#answer _) "answer";
        case (#deferred) "deferred";
        case (#failed_for_now) "failed, to be retried";
        case (#failed_for_good _) "failed for good";
        case (#rerun) "rerun";
      };
    };

    func carryOut(key : Types.Key, effects : [Types.Effect], direct : Bool) : async* () {
      for (effect in effects.values()) {
        switch effect {
          case (#transmit t) if (not (await* calls.transmit(key, t))) await* on(key, #not_sent t, true);
          case (#hand_over h) await* handOver(h, direct);
          case (#tell t) await* tell(key, t);
          case (#ask question) await* ask(key, question);
          case (#count reason) Store.count(s, reason);
          case (#remember_paid p) if (not Store.rememberPaid(s, p.peer, p.msg_id, p.until)) Store.count(s, "paid_mark_refused");
        };
      };
    };

    // Messages to ourselves that have not begun yet. One that never begins, because the canister was
    // stopped meanwhile, counts as failed. Time does not tell which: on a busy canister any may wait
    // long. Order does: messages to oneself begin in the order in which they were sent, so that what
    // has not begun when a later one runs never will.
    let waiting = Map.empty<Nat, (Nat64, Types.Key, Types.What)>();
    // Tellings and questions that have begun and not ended. One that has not ended within `answer_within`
    // counts as failed too: a snapshot that caught it brings it back, but not the message. (A handler that
    // takes so long is ended by its flow.)
    let begun = Map.empty<Nat, (Nat64, Types.Key, Types.What)>();
    var nextWork = 0;
    // What found no place in the canister's queue to itself, and when it is tried again. That is no
    // failure of the application. An upgrade loses it, and the start after that finds its flow.
    let unsent = Map.empty<Nat, (Nat64, () -> async (), Types.Key, Types.What)>();

    /// Notes what this message to ourselves took.
    func worked() { Store.add(s, "instructions.apart", InternetComputer.performanceCounter(0)) };

    /// Runs the application's code as a message of its own, so that its trap undoes nothing of this
    /// one, is seen, and is reported to the flow as `failed`.
    func apart(run : () -> async (), key : Types.Key, failed : Types.What) : async* () {
      let number = nextWork;
      nextWork += 1;
      func supervise() : async () {
        if (Map.take(waiting, Nat.compare, number) == null) return;
        switch failed {
          case (#handler_failed(#hand_over _)) {};
          case _ Map.add(begun, Nat.compare, number, (clock(), key, failed));
        };
        worked();
        try {
          await run();
          Map.remove(begun, Nat.compare, number);
        } catch (error) {
          Map.remove(begun, Nat.compare, number);
          switch (Error.code(error)) {
            case (#call_error _) keepUnsent(number, run, key, failed);
            case _ await* on(key, failed, true);
          };
          arm<system>();
        };
      };
      Map.add(waiting, Nat.compare, number, (clock(), key, failed));
      try { ignore supervise() } catch (_) {
        Map.remove(waiting, Nat.compare, number);
        keepUnsent(number, run, key, failed);
      };
    };

    func keepUnsent(number : Nat, run : () -> async (), key : Types.Key, failed : Types.What) {
      Store.count(s, "own_queue_full");
      Map.add(unsent, Nat.compare, number, (clock() + s.policy.send_retry, run, key, failed));
    };

    /// Tries again what found no place, if its flow still wants it.
    func sendUnsent(now : Nat64) : async* () {
      label some for (_ in Nat.range(0, Turns.tickFlows)) switch (Map.minEntry(unsent)) {
        case (?(number, (due, run, key, failed))) {
          if (due > now) break some;
          Map.remove(unsent, Nat.compare, number);
          // It gets a number of its own: one that finds no place again comes after the others.
          if (isOpen(key, failed)) await* apart(run, key, failed) else Store.count(s, "outdated");
        };
        case null break some;
      };
    };

    func isOpen(key : Types.Key, failed : Types.What) : Bool {
      switch (key, failed) {
        case (#sender id, #handler_failed work) Sender.isOpen(senderFlow(id), work);
        case (#receiver(sender, id), #handler_failed work) Receiver.isOpen(receiverFlow(sender, id), work);
        case _ false;
      };
    };

    /// Gives up what was sent before number `later`, a message that runs now: as many as a tick may.
    func giveUpWaiting(later : Nat) : async* () {
      label old for (_ in Nat.range(0, Turns.tickFlows)) switch (Map.minEntry(waiting)) {
        case (?(number, (_, key, failed))) {
          if (number >= later) break old;
          Map.remove(waiting, Nat.compare, number);
          Store.count(s, "never_begun");
          await* on(key, failed, true);
        };
        case null break old;
      };
    };

    func isOver(work : (Nat64, Types.Key, Types.What), now : Nat64) : Bool { work.0 + s.policy.answer_within <= now };

    /// Gives up what began too long ago: as many as a tick may.
    func giveUpBegun(now : Nat64) : async* () {
      label old for (_ in Nat.range(0, Turns.tickFlows)) switch (Map.minEntry(begun)) {
        case (?(number, work)) {
          if (not isOver(work, now)) break old;
          Map.remove(begun, Nat.compare, number);
          Store.count(s, "never_ended");
          await* on(work.1, work.2, true);
        };
        case null break old;
      };
    };

    // --- The application ------------------------------------------------------------------------------

    func handOver(h : Types.HandOver, direct : Bool) : async* () {
      let request : App.Request = {
        sender = h.peer;
        msg_id = h.msg_id;
        payload = h.payload;
        hash = h.hash;
        redelivered = h.redelivered;
      };
      let ?handle = app.handler else return;
      if (not direct) return await* apart(
        func() : async () {
          await* reply(h, handle(request));
          arm<system>();
        },
        #receiver(h.peer, h.msg_id),
        #handler_failed(#hand_over { tries = h.tries }),
      );
      await* reply(h, handle(request));
    };

    func reply(h : Types.HandOver, made : App.Reply) : async* () {
      switch made {
        case (#answer a) await* conclude(h, #answer a);
        case (#failed f) await* conclude(h, #failed f);
        case (#later) await* conclude(h, #later);
        case (#retry) await* conclude(h, #retry);
        case (#running work) await* apart(
          func() : async () {
            await* conclude(h, await* work());
            arm<system>();
          },
          #receiver(h.peer, h.msg_id),
          #handler_failed(#hand_over { tries = h.tries }),
        );
      };
    };

    func conclude(h : Types.HandOver, made : App.Answer) : async* () {
      let key = (h.peer, h.msg_id);
      let result = switch made {
        case (#answer response) await* answered(key, response, false);
        case (#failed response) await* answered(key, response, true);
        case (#later) await* onReceiver(key, #deferred, true, false);
        case (#retry) await* onReceiver(key, #failed_for_now, true, false);
      };
      switch result {
        case (#ok) {};
        case (#err _) {
          Store.count(s, "handler_answer_refused");
          ignore await* onReceiver(key, #handler_failed(#hand_over { tries = h.tries }), true, false);
        };
      };
    };

    func answered(key : (Principal, Nat), response : ?Blob, forGood : Bool) : async* Outcome<()> {
      let fits = Store.fits(s, s.receiving, key.0, Access.isListed(s.access, key.0), Types.size(response), true); // a flow without an answer is open
      let what = if forGood #failed_for_good { response; fits } else #answer { response; fits };
      await* onReceiver(key, what, hasRoom(key.0), false);
    };

    func tell(key : Types.Key, t : Types.Tell) : async* () {
      let of = { what = t.what; tries = t.tries };
      func run() : async () {
        switch (t.what) {
          case (#answered or #failed or #late) switch (app.outcome) {
            case (?#synchronous take) take(t);
            case (?#running take) await* take(t);
            // Nobody has heard it: a later start, whose application listens, tells it again.
            case null return Store.count(s, "no_sender");
          };
          case _ app.notice(t);
        };
        await* on(key, #returned of, hasRoom(t.peer));
        arm<system>();
        worked();
      };
      await* apart(run, key, #handler_failed(#tell of));
    };

    func ask(key : Types.Key, question : Types.Ask) : async* () {
      func run() : async () {
        switch (app.corruption(question)) {
          case (?decision) if (question.decide) await* on(key, #decided decision, hasRoom(question.peer));
          case null {};
        };
        arm<system>();
      };
      await* apart(run, key, #handler_failed(#ask { their_hash = question.their_hash; tries = question.tries }));
    };

    // --- Messages from peers ------------------------------------------------------------------------------

    /// The one entry for what peers send, canisters by call and agents by ingress.
    public func receive(caller : Principal, dialect : Types.Dialect, message : Types.Message) : async* () {
      let now = observe();
      switch (Admission.message(s, caller, message)) {
        case (?reason) refuse(caller, reason);
        case null {
          Peers.received(s.peers, caller);
          await* receiveAdmitted(caller, dialect, message, now);
        };
      };
      // Whatever came of it: a timer that came while the canister was stopped is lost.
      arm<system>();
      Store.add(s, "instructions.receive", InternetComputer.performanceCounter(0));
    };

    func receiveAdmitted(caller : Principal, dialect : Types.Dialect, message : Types.Message, now : Nat64) : async* () {
      switch message {
        case (#NEW new) await* receiveNew(caller, dialect, new, now);
        case (#ACK ack) await* receiveAck(caller, dialect, ack, now);
        case (#FIN fin) await* receiveFin(caller, dialect, fin);
      };
    };

    func refuse(caller : Principal, reason : Text) {
      Store.count(s, "refused." # reason);
      // Rows of the traffic table are not for those who are not even peers.
      if (Peer.classify(caller) == #canister) Peers.refused(s.peers, caller);
    };

    func received(caller : Principal, dialect : Types.Dialect, message : Types.Message) : Types.What {
      #received { message; caller; dialect; refused = null; paid = false; listed = false; floor = 0 };
    };

    func receiveNew(caller : Principal, dialect : Types.Dialect, new : { msg_id : Nat; payload : Blob }, now : Nat64) : async* () {
      if (not isReceiver) return Store.count(s, "no_receiver");
      let key = (caller, new.msg_id);
      let base = { message = #NEW new; caller; dialect; listed = Access.isListed(s.access, caller) };
      let what = if (Map.containsKey(s.receivers, Order.peerId, key)) {
        #received { base with refused = null; paid = false; floor = 0 : Nat64 };
      } else switch (Admission.newFlow(s, caller, new.msg_id, new.payload, now, Cycles.available(), { flows = 0; bytes = 0 })) {
        case (#refused reason) {
          Peers.refused(s.peers, caller);
          #received { base with refused = ?reason; paid = false; floor = 0 : Nat64 };
        };
        case (#admitted { floor; charge; paid }) {
          // Taken last, and exactly the minimum: whatever was refused cost its sender nothing.
          if charge ignore Cycles.accept<system>(s.policy.min_cycles);
          // From here on the flow itself says that it is paid for.
          Store.forgetPaid(s, caller, new.msg_id);
          #received { base with refused = null; paid; floor };
        };
      };
      ignore await* onReceiver(key, what, hasRoom(caller), true);
    };

    func receiveAck(caller : Principal, dialect : Types.Dialect, ack : { msg_id : Nat; payload : ?Blob; hash : ?Nat32 }, now : Nat64) : async* () {
      if (not isSender) return Store.count(s, "no_sender");
      let room = switch (senderFlow(ack.msg_id)) {
        case (?f) {
          if (f.peer == caller) {
            InFlight.release(s.calls, caller, #new, ack.msg_id);
            // Its room was set aside while the flow was open; what exceeds that, and a late response,
            // needs free bytes, or waits for them.
            if (f.response_hash == null and not Store.fits(s, s.sending, caller, true, Types.size(ack.payload), Store.awaitsResponse(f))) {
              return Store.count(s, "refused.quota_bytes");
            };
          };
          hasRoom(caller);
        };
        case null mayAnswerUnknown(caller, now);
      };
      ignore await* onSender(ack.msg_id, received(caller, dialect, #ACK ack), room);
    };

    func receiveFin(caller : Principal, dialect : Types.Dialect, fin : { msg_id : Nat; hash : ?Nat32 }) : async* () {
      if (not isReceiver) return Store.count(s, "no_receiver");
      InFlight.release(s.calls, caller, #ack, fin.msg_id);
      ignore await* onReceiver((caller, fin.msg_id), received(caller, dialect, #FIN fin), hasRoom(caller), true);
    };

    // --- Batches ------------------------------------------------------------------------------------------

    /// Takes a batch apart: stores no flow, and sends each entry to this canister itself as a message
    /// of its own, so that one which traps harms no other. What can change no flow is done with at once.
    public func receiveBatch(caller : Principal, entries : [Types.Message]) : async* () {
      let now = observe();
      var cycles = Cycles.available();
      var bytes = 0;
      var n = 0;
      var before = { flows = 0; bytes = 0 };
      let listed = Access.isListed(s.access, caller);
      label each for (entry in entries.values()) {
        n += 1;
        bytes += Outbox.sizeOf(entry);
        if (n > Calls.batchMessages or bytes > Calls.batchBytes) {
          Store.add(s, "batch_cut", Nat64.fromNat(entries.size() + 1 - n));
          break each;
        };
        switch (Admission.message(s, caller, entry)) {
          case (?reason) { refuse(caller, reason); continue each };
          case null {};
        };
        let concernsFlow = switch entry { case (#NEW _) isReceiver; case _ Admission.named(s, caller, entry) };
        if (not concernsFlow) {
          Peers.received(s.peers, caller);
          await* receiveAdmitted(caller, #unified, entry, now);
          continue each;
        };
        if (not forwards.hasRoom(listed)) { Store.count(s, "forwards_full"); continue each };
        switch entry {
          case (#NEW new) if (not Map.containsKey(s.receivers, Order.peerId, (caller, new.msg_id))) {
            switch (Admission.newFlow(s, caller, new.msg_id, new.payload, now, cycles, before)) {
              case (#refused reason) { refuse(caller, reason); continue each };
              case (#admitted { charge }) if charge {
                if (not Store.rememberPaid(s, caller, new.msg_id, now + s.policy.lifetime)) {
                  refuse(caller, "quota_paid_marks");
                  continue each;
                };
                cycles -= s.policy.min_cycles;
                ignore Cycles.accept<system>(s.policy.min_cycles);
              };
            };
            before := { flows = before.flows + 1; bytes = before.bytes + new.payload.size() };
          };
          case _ {};
        };
        let ourselves = actor (Principal.toText(me)) : actor { asyncFlow_forward : shared (Principal, Types.Message) -> () };
        try {
          (with timeout = calls.timeout()) ourselves.asyncFlow_forward(caller, entry);
          forwards.left();
        } catch (_) Store.count(s, "own_queue_full");
      };
      arm<system>();
    };

    /// An entry of a batch, from this canister itself and from nobody else.
    public func forwarded(caller : Principal, on_behalf_of : Principal, message : Types.Message) : async* () {
      if (caller != me) return Store.count(s, "refused.caller");
      forwards.began();
      await* receive(on_behalf_of, #unified, message);
    };

    /// One global rate for FINs that answer ACKs of unknown flows.
    func mayAnswerUnknown(caller : Principal, now : Nat64) : Bool {
      if (Peer.classify(caller) != #canister or not hasRoom(caller)) return false;
      let second = now / 1_000_000_000;
      if (second != s.finSecond) { s.finSecond := second; s.finCount := 0 };
      if (s.finCount >= s.policy.unknown_fins_per_second) return false;
      s.finCount += 1;
      true;
    };

    // --- The application's own requests -----------------------------------------------------------------

    /// Opens a flow: stores it, then transmits its NEW if there is room. The id, or why not.
    ///
    /// Awaits only where this canister has no randomness yet: once, soon after its installation.
    public func send(to : Principal, payload : Blob) : async* Outcome<Nat> {
      if (not s.ids.seeded) await* seed();
      if (not s.ids.seeded) return #err "no randomness yet: the management canister's raw_rand failed";
      await* sendAs(Ulid.mint(s.ids, observe()), to, payload, Peers.dialect(s.peers, to));
    };

    /// The same with an id and a dialect of the application's choice; to repeat it changes nothing.
    public func sendAs(id : Nat, to : Principal, payload : Blob, dialect : Types.Dialect) : async* Outcome<Nat> {
      ignore observe();
      if (not isSender) return #err "this canister is no sender: give its application an outcome handler";
      if (id >= Types.idLimit) return #err "an id must be below 2^128";
      switch (Peer.classify(to)) {
        case (#canister) {};
        case (#agent) if (not Access.isAgent(s.access, to)) return #err "this agent is not on the access list";
        case (#other) return #err "a peer must be a canister or a listed agent";
      };
      if (payload.size() > Nat64.toNat(s.policy.max_payload)) return #err "the payload exceeds max_payload";
      if (not Map.containsKey(s.senders, Nat.compare, id)) {
        switch (Store.quota(s, s.sending, to, true, payload.size(), { flows = 0; bytes = 0 })) {
          case (?reason) return #err reason;
          case null {};
        };
      };
      switch (await* onSender(id, #send { peer = to; msg_id = id; payload; dialect }, true)) {
        case (#err reason) return #err reason;
        case (#ok) {};
      };
      ignore await* onSender(id, #due, hasRoom(to));
      arm<system>();
      #ok id;
    };

    func asked(id : Nat, what : Types.What) : async* Outcome<()> {
      ignore observe();
      let result = await* onSender(id, what, roomOf(#sender id));
      arm<system>();
      result;
    };

    /// Gives up on a flow that has not ended.
    public func cancel(id : Nat) : async* Outcome<()> { await* asked(id, #cancel) };

    /// The application has the response, however it got it.
    public func finish(id : Nat) : async* Outcome<()> { await* asked(id, #finish) };

    /// The operator: hands a dead letter over again.
    public func retry(id : Nat) : async* Outcome<()> { await* asked(id, #retry_dead_letter) };

    /// The operator: the response of a dead letter is not wanted.
    public func drop(id : Nat) : async* Outcome<()> { await* asked(id, #drop_dead_letter) };

    /// The decision about a corruption, where the handler gave none.
    public func decide(key : Types.Key, decision : Types.Decision) : async* Outcome<()> {
      await* requested(key, #decided decision);
    };

    func requested(key : Types.Key, what : Types.What) : async* Outcome<()> {
      ignore observe();
      let result = switch key {
        case (#sender id) await* onSender(id, what, roomOf(key));
        case (#receiver k) await* onReceiver(k, what, roomOf(key), false);
      };
      arm<system>();
      result;
    };

    /// The answer to a request that a handler put off, or that is stalled.
    public func answer(sender : Principal, id : Nat, response : ?Blob) : async* Outcome<()> {
      ignore observe();
      let result = await* answered((sender, id), response, false);
      arm<system>();
      result;
    };

    /// Failed for good: these bytes are the answer.
    public func fail(sender : Principal, id : Nat, response : ?Blob) : async* Outcome<()> {
      ignore observe();
      let result = await* answered((sender, id), response, true);
      arm<system>();
      result;
    };

    /// Failed, to be retried: the sender's next NEW is processed anew.
    public func forget(sender : Principal, id : Nat) : async* Outcome<()> {
      await* requested(#receiver(sender, id), #failed_for_now);
    };

    /// Runs the handler of a stalled flow again.
    public func rerun(sender : Principal, id : Nat) : async* Outcome<()> {
      await* requested(#receiver(sender, id), #rerun);
    };

    /// The flow that this canister opened under this id, or null.
    public func senderFlow(id : Nat) : ?Types.SenderFlow { Map.get(s.senders, Nat.compare, id) };

    /// The flow that this sender opened here under this id, or null.
    public func receiverFlow(sender : Principal, id : Nat) : ?Types.ReceiverFlow {
      Map.get(s.receivers, Order.peerId, (sender, id));
    };

    // --- The outbox -------------------------------------------------------------------------------------

    /// What waits for this agent, oldest first: as many as fit a page, and at least one.
    public func outbox(agent : Principal, after : ?Nat64, limit : Nat32) : [Types.OutboxEntry] {
      OutboxPage.page(s, agent, after, limit, clock());
    };

    /// The agent has these entries: all up to and including `seq`.
    public func trim(agent : Principal, seq : Nat64) { Outbox.trim(s.outbox, agent, seq) };

    // --- Who may do what --------------------------------------------------------------------------------

    /// Whether this caller has an outbox: a listed agent, or one with flows from when it was listed.
    public func hasOutbox(who : Principal) : Bool {
      Access.isAgent(s.access, who) or (Peer.classify(who) == #agent and Store.hasFlows(s, who));
    };

    /// Whether this caller may read status, flows and events: a controller or a listed monitor.
    public func mayWatch(who : Principal) : Bool { Access.mayWatch(s.access, who) };

    /// Who may drive a reference canister: controllers, monitors, listed agents.
    public func mayDrive(who : Principal) : Bool { Access.isAgent(s.access, who) or Access.mayWatch(s.access, who) };

    /// For `system func inspect`: whether an ingress message of this caller can be of use. It saves
    /// cycles only; every method checks for itself.
    public func mayCall(who : Principal) : Bool { mayDrive(who) or hasOutbox(who) };

    // --- Settings ---------------------------------------------------------------------------------------

    /// Changes settings and lists. The caller must have checked that a controller asks.
    public func configure<system>(change : Install.Install) : Outcome<()> {
      ignore observe();
      let result = Install.apply(s, change, app.priced);
      arm<system>();
      result;
    };

    // --- The timer --------------------------------------------------------------------------------------

    func wake(now : Nat64) : ?Nat64 {
      if (Store.interrupted(s) != null) return ?now;
      let seeding = if (s.ids.seeded) null else ?seedDue;
      let due = switch (Set.min(s.due)) { case (?(time, _)) ?time; case null null };
      let late = switch (Map.minEntry(waiting)) { case (?(_, (since, _, _))) ?(since + s.policy.send_retry); case null null };
      let over = switch (Map.minEntry(begun)) { case (?(_, (since, _, _))) ?(since + s.policy.answer_within); case null null };
      let again = switch (Map.minEntry(unsent)) { case (?(_, (time, _, _, _))) ?time; case null null };
      let forwarded = switch (forwards.waitingSince()) { case (?since) ?(since + s.policy.send_retry); case null null };
      // While tombstones are kept, time is observed often enough for them.
      let glance = if (Map.isEmpty(s.receivers)) null else ?(s.clock.seen + s.policy.time_gap / 2);
      Policy.earliest([due, glance, seeding, late, over, again, forwarded]);
    };

    func arm<system>() {
      let now = clock();
      switch (wake(now)) {
        case (?time) armAt<system>(now, Nat64.max(time, now));
        case null {};
      };
    };

    func armAt<system>(now : Nat64, time : Nat64) {
      switch armed {
        case (?(earlier, id)) {
          // One that is overdue may have come while the canister was stopped, and then is lost.
          if (earlier <= time and earlier >= now) return;
          Timer.cancelTimer(id);
        };
        case null {};
      };
      armed := ?(time, Timer.setTimer<system>(#nanoseconds(Nat64.toNat(time - now)), tick));
    };

    func pause() : async () {};

    func isIdle(now : Nat64) : Bool {
      let nothingDue = switch (Set.min(s.due)) { case (?(time, _)) time > now; case null true };
      let nothingOver = switch (Map.minEntry(begun)) { case (?(_, work)) not isOver(work, now); case null true };
      let nothingUnsent = switch (Map.minEntry(unsent)) { case (?(_, (time, _, _, _))) time > now; case null true };
      let nothingWaits = Map.isEmpty(waiting) and forwards.waitingSince() == null;
      nothingDue and nothingOver and nothingUnsent and nothingWaits and s.ids.seeded and Store.interrupted(s) == null;
    };

    func tick() : async () {
      armed := null;
      let now = observe();
      if (isIdle(now)) return arm<system>();
      // Re-armed, and taken to be doomed, before the work: both are committed by the pause, so a
      // flow that traps costs one tick, is then tried alone, and holds no other up.
      armAt<system>(now, now + s.policy.send_retry);
      let size = s.batch;
      s.batch := 1;
      // What a start has to look at has ticks of its own, before all else.
      let work = if (Store.interrupted(s) == null) Turns.next(s, now, size) else [];
      if (size == 1) {
        for ((time, key) in work.values()) Store.postpone(s, time, key, now + s.policy.send_retry);
      };
      let (sentBefore, forwardedBefore) = (nextWork, forwards.sentSoFar());
      try { await pause() } catch (error) {
        // If there was no place for it, no flow is at fault.
        switch (Error.code(error)) { case (#call_error _) s.batch := size; case _ {} };
        return;
      };
      calls.begin();
      await* lookAfterInterrupted();
      await* giveUpWaiting(sentBefore);
      forwards.begunUpTo(forwardedBefore);
      await* giveUpBegun(now);
      await* sendUnsent(now);
      for ((time, key) in work.values()) await* workOn(time, key);
      for ((key, t) in (await* calls.flush()).values()) await* on(key, #not_sent t, true);
      s.batch := Nat.min(Turns.tickFlows, size * 2);
      Store.add(s, "instructions.tick", InternetComputer.performanceCounter(0));
      if (not s.ids.seeded and clock() >= seedDue) await* seed();
      switch armed { case (?(_, id)) { Timer.cancelTimer(id); armed := null }; case null {} };
      arm<system>();
    };

    func dueOf(key : Types.Key) : ?(Nat64, Principal) {
      switch key {
        case (#sender id) do ? { let f = senderFlow(id)!; (f.due!, f.peer) };
        case (#receiver(sender, id)) do ? { let f = receiverFlow(sender, id)!; (f.due!, sender) };
      };
    };

    func restarted(key : Types.Key) : async* () {
      await* on(key, #restarted { share = Ulid.below(s.ids, 1_000_000) }, true);
      Store.seenTo(s, key);
    };

    func workOn(time : Nat64, key : Types.Key) : async* () {
      // What fell due before this start is spread.
      if (time < s.started) await* restarted(key);
      switch (dueOf(key)) {
        case (?(due, peer)) if (due <= clock()) await* on(key, #due, hasRoom(peer));
        case null {};
      };
      switch (dueOf(key)) {
        case (?(due, _)) {
          let now = clock();
          if (due <= now and Set.contains(s.due, Order.timed, (due, key))) Store.postpone(s, due, key, now + s.policy.send_retry);
        };
        case null {};
      };
    };

    func lookAfterInterrupted() : async* () {
      var bytes = 0;
      label look for (n in Nat.range(0, Turns.tickFlows)) {
        let ?key = Store.interrupted(s) else break look;
        // A handler that runs again is handed the payload, who is told gets the response.
        bytes += Turns.carried(s, key);
        if (n > 0 and bytes > Turns.tickBytes) break look;
        await* restarted(key);
      };
    };

    func seed() : async* () {
      try { Ulid.seed(s.ids, await management.raw_rand()) } catch (_) {
        Store.count(s, "raw_rand failed");
        seedDue := clock() + s.policy.send_retry;
      };
    };

    /// Says how the canister declares NEW's method. Traps if that contradicts `priced`.
    public func declare(oneWay : Bool) {
      if (oneWay == app.priced) Runtime.trap(
        if oneWay "a priced application needs EndpointPriced: a one-way method refunds before its body runs"
        else "EndpointPriced needs a priced application"
      );
    };

    // --- Start: installation, upgrade -----------------------------------------------------------------------

    switch install {
      case (?change) switch (Install.apply(s, change, app.priced)) {
        case (#err reason) Runtime.trap("bad install argument: " # reason);
        case (#ok) {};
      };
      case null {};
    };
    s.started := observe();
    s.start += 1;
    arm<system>();
  };
};
