/// The shell around the tables: calls, one timer, cycles, randomness.
///
/// A step is: read the flow, ask the table, store, carry the effects out. All of that is one message,
/// so that a trap undoes the flow and its transmissions together. Nothing is awaited from a peer.

import Array "mo:core/Array";
import Cycles "mo:core/Cycles";
import List "mo:core/List";
import Map "mo:core/Map";
import Nat "mo:core/Nat";
import Nat32 "mo:core/Nat32";
import Nat64 "mo:core/Nat64";
import Order_ "mo:core/Order";
import Principal "mo:core/Principal";
import Runtime "mo:core/Runtime";
import Set "mo:core/Set";
import Time "mo:core/Time";
import Timer "mo:core/Timer";
import Access "Access";
import Admission "Admission";
import App "Application";
import Dialects "Dialects";
import InFlight "InFlight";
import Order "Order";
import Outbox "Outbox";
import Peer "Peer";
import Policy "Policy";
import Receiver "Receiver";
import Sender "Sender";
import Store "Store";
import Types "Types";
import Ulid "Ulid";

module {
  type Outcome<T> = Policy.Outcome<T>;

  /// The install argument, and what a controller changes later (candid/settings.did).
  public type Install = { settings : ?Policy.Settings; access : ?Access.Lists };

  // The most that one tick works on.
  let tickFlows = 100;
  let tickBytes = 1_900_000;
  // The most that one outbox page carries.
  let pageBytes = 1_900_000;

  public let agentsOnly = "only agents on this canister's access list have an outbox";
  public let monitorsOnly = "only controllers and listed monitors may watch this canister";
  public let controllersOnly = "only controllers may configure this canister";

  let management = actor "aaaaa-aa" : actor { raw_rand : () -> async Blob };

  /// One Async Flow node: a sender, a receiver or both.
  ///
  /// Create it in a `transient let` of a persistent actor, from a `Store.State` in a stable one. A
  /// bad install argument traps with the reason.
  public class Node<system>(s : Store.State, app : App.Application, install : ?Install) {
    var armed : ?(Nat64, Timer.TimerId) = null;
    var seedDue : Nat64 = 0;
    let isSender = switch (app.outcome) { case (?_) true; case null false };
    let isReceiver = switch (app.handler) { case (?_) true; case null false };

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

    func hasRoom(peer : Principal) : Bool {
      Peer.classify(peer) != #canister or InFlight.count(s.calls, peer) < Nat32.toNat(s.policy.in_flight);
    };

    // --- One step of one flow -----------------------------------------------------------------------

    func onSender(id : Nat, what : Types.What, room : Bool) : async* Outcome<()> {
      let now = clock();
      let old = Map.get(s.senders, Nat.compare, id);
      switch (Sender.step(old, event(what, room), now, s.policy, #response)) {
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
          case (#transmit t) await* transmit(key, t);
          case (#hand_over h) await* handOver(h, direct);
          case (#tell t) await* tell(key, t);
          case (#ask question) await* ask(key, question);
          case (#count reason) Store.count(s, reason);
          case (#remember_paid p) Store.rememberPaid(s, p.peer, p.msg_id, p.until);
        };
      };
    };

    func transmit(key : Types.Key, t : Types.Transmit) : async* () {
      let now = clock();
      let (kind, cycles, until) = switch (t.message) {
        case (#NEW _) (#new, s.policy.attach_cycles.new, now + s.policy.call_timeout + s.policy.call_margin);
        case (#ACK _) (#ack, s.policy.attach_cycles.ack, now + s.policy.call_timeout + s.policy.call_margin);
        case (#FIN _) (#fin, s.policy.attach_cycles.fin, now + s.policy.send_retry);
      };
      let id = Types.idOf(t.message);
      let left = if (Peer.classify(t.peer) == #agent) {
        Outbox.put(s.outbox, t.peer, t.message, Nat32.toNat(s.policy.outbox_messages), Nat64.toNat(s.policy.outbox_bytes));
      } else {
        try {
          await* Dialects.call(t.peer, t.dialect, t.message, Nat32.max(1, Policy.seconds(s.policy.call_timeout)), cycles);
          InFlight.add(s.calls, t.peer, kind, id, until);
          true;
        } catch (_) false;
      };
      Store.count(s, switch (t.message) {
        case (#NEW _) if left "sent NEW" else "not sent NEW";
        case (#ACK _) if left "sent ACK" else "not sent ACK";
        case (#FIN _) if left "sent FIN" else "not sent FIN";
      });
      if (not left) await* on(key, #not_sent t, true);
    };

    /// Runs the application's code as a message of its own, so that its trap undoes nothing of this
    /// one, is seen, and is reported to the flow as `failed`.
    func apart(run : () -> async (), key : Types.Key, failed : Types.What) : async* () {
      func supervise() : async () {
        try { await run() } catch (_) {
          await* on(key, failed, true);
          arm<system>();
        };
      };
      try { ignore supervise() } catch (_) {
        Store.count(s, "own_queue_full");
        await* on(key, failed, true);
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
      let failed = #handler_failed(#hand_over { tries = h.tries });
      let run = switch (app.handler) {
        case (?#synchronous handle) {
          if direct return await* reply(h, handle(request));
          func() : async () { await* reply(h, handle(request)); arm<system>() };
        };
        case (?#running handle) func() : async () { await* reply(h, await* handle(request)); arm<system>() };
        case null return;
      };
      await* apart(run, #receiver(h.peer, h.msg_id), failed);
    };

    func reply(h : Types.HandOver, made : App.Reply) : async* () {
      let key = (h.peer, h.msg_id);
      let result = switch made {
        case (#answer response) await* answered(key, response, false);
        case (#failed response) await* answered(key, response, true);
        case (#later) await* onReceiver(key, #deferred, true, false);
        case (#retry) await* onReceiver(key, #failed_for_now, true, false);
      };
      switch result {
        case (#ok) {};
        case (#err reason) {
          Store.count(s, "handler: " # reason);
          ignore await* onReceiver(key, #handler_failed(#hand_over { tries = h.tries }), true, false);
        };
      };
    };

    func answered(key : (Principal, Nat), response : ?Blob, forGood : Bool) : async* Outcome<()> {
      let fits = Store.fits(s, s.receiving, key.0, Types.size(response));
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
            case null {};
          };
          case _ app.notice(t);
        };
        await* on(key, #returned of, hasRoom(t.peer));
        arm<system>();
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
        case (?reason) return Store.count(s, reason);
        case null {};
      };
      switch message {
        case (#NEW new) await* receiveNew(caller, dialect, new, now);
        case (#ACK ack) {
          if (not isSender) return Store.count(s, "no sender here: ACK");
          let known = Map.get(s.senders, Nat.compare, ack.msg_id);
          let room = switch known { case (?_) hasRoom(caller); case null mayAnswerUnknown(caller, now) };
          switch known { case (?f) if (f.peer == caller) InFlight.release(s.calls, caller, #new, ack.msg_id); case null {} };
          ignore await* onSender(ack.msg_id, received(caller, dialect, message), room);
        };
        case (#FIN fin) {
          if (not isReceiver) return Store.count(s, "no receiver here: FIN");
          InFlight.release(s.calls, caller, #ack, fin.msg_id);
          ignore await* onReceiver((caller, fin.msg_id), received(caller, dialect, message), true, true);
        };
      };
      arm<system>();
    };

    func received(caller : Principal, dialect : Types.Dialect, message : Types.Message) : Types.What {
      #received { message; caller; dialect; refused = null; paid = false; listed = false; floor = 0 };
    };

    func receiveNew(caller : Principal, dialect : Types.Dialect, new : { msg_id : Nat; payload : Blob }, now : Nat64) : async* () {
      if (not isReceiver) return Store.count(s, "no receiver here: NEW");
      let key = (caller, new.msg_id);
      let known = Map.containsKey(s.receivers, Order.peerId, key);
      let listed = Access.isListed(s.access, caller);
      var refused = if known null else Admission.newFlow(s, caller, new.payload, now);
      var paid = Store.hasPaid(s, caller, new.msg_id);
      if (not known and refused == null and s.policy.min_cycles > 0 and not paid) {
        // Taken last, and exactly the minimum: whatever is refused above costs its sender nothing.
        if (Cycles.available() < s.policy.min_cycles) refused := ?"refused: cycles" else {
          ignore Cycles.accept<system>(s.policy.min_cycles);
          paid := true;
        };
      };
      let what = #received { message = #NEW new; caller; dialect; refused; paid; listed; floor = 0 : Nat64 };
      ignore await* onReceiver(key, what, hasRoom(caller), true);
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
      await* sendAs(Ulid.mint(s.ids, observe()), to, payload, #unified);
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
        switch (Store.quota(s, s.sending, to, true, payload.size())) {
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
      let result = await* onSender(id, what, true);
      arm<system>();
      result;
    };

    /// Gives up on a flow that has not ended.
    public func cancel(id : Nat) : async* Outcome<()> { await* asked(id, #cancel) };

    /// The application has the response, however it got it.
    public func finish(id : Nat) : async* Outcome<()> { await* asked(id, #finish) };

    /// The operator: hands a dead letter over again, or drops it.
    public func retry(id : Nat) : async* Outcome<()> { await* asked(id, #retry_dead_letter) };
    public func drop(id : Nat) : async* Outcome<()> { await* asked(id, #drop_dead_letter) };

    /// The decision about a corruption, where the handler gave none.
    public func decide(key : Types.Key, decision : Types.Decision) : async* Outcome<()> {
      await* requested(key, #decided decision);
    };

    func requested(key : Types.Key, what : Types.What) : async* Outcome<()> {
      ignore observe();
      let result = switch key {
        case (#sender id) await* onSender(id, what, true);
        case (#receiver k) await* onReceiver(k, what, hasRoom(k.0), false);
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

    public func senderFlow(id : Nat) : ?Types.SenderFlow { Map.get(s.senders, Nat.compare, id) };
    public func receiverFlow(sender : Principal, id : Nat) : ?Types.ReceiverFlow {
      Map.get(s.receivers, Order.peerId, (sender, id));
    };

    // --- The outbox -------------------------------------------------------------------------------------

    func waitingMessage(agent : Principal, kind : Types.Kind, id : Nat, now : Nat64) : ?Types.Message {
      switch kind {
        case (#ack) switch (receiverFlow(agent, id)) {
          case (?f) ?#ACK { msg_id = id; payload = f.response; hash = ?f.payload_hash };
          case null null;
        };
        case (#new) switch (senderFlow(id)) {
          case (?f) switch (f.payload, f.ends) {
            // Its lifetime is tested right before it is handed out, too.
            case (?payload, ?ends) if (f.state == #sending and now < ends) ?#NEW { msg_id = id; payload } else null;
            case _ null;
          };
          case null null;
        };
        case (#fin) switch (senderFlow(id)) {
          case (?f) ?#FIN { msg_id = id; hash = f.response_hash };
          case null null;
        };
      };
    };

    /// What waits for this agent, oldest first: as many as fit a page, and at least one.
    public func outbox(agent : Principal, after : ?Nat64, limit : Nat32) : [Types.OutboxEntry] {
      let now = clock();
      let page = List.empty<Types.OutboxEntry>();
      var bytes = 0;
      label fill for ((seq, entry) in Outbox.waiting(s.outbox, agent, after)) {
        if (List.size(page) >= Nat32.toNat(limit)) break fill;
        if (List.size(page) > 0 and bytes + entry.size > pageBytes) break fill;
        switch (waitingMessage(agent, entry.kind, entry.msg_id, now)) {
          case (?message) {
            List.add(page, { seq; message });
            bytes += entry.size;
          };
          case null {};
        };
      };
      List.toArray(page);
    };

    /// The agent has these entries: all up to and including `seq`.
    public func trim(agent : Principal, seq : Nat64) { Outbox.trim(s.outbox, agent, seq) };

    // --- Who may do what ----

    public func isAgent(who : Principal) : Bool { Access.isAgent(s.access, who) };
    public func mayWatch(who : Principal) : Bool { Access.mayWatch(s.access, who) };

    /// For `system func inspect`: whether ingress of this caller is worth running. Saves cycles only.
    public func mayCall(who : Principal) : Bool {
      Access.isAgent(s.access, who) or Access.mayWatch(s.access, who) or Map.containsKey(s.outbox.boxes, Principal.compare, who);
    };

    // --- Settings ---------------------------------------------------------------------------------------

    func apply(change : Install) : Outcome<()> {
      switch (change.access) {
        case (?lists) switch (Access.flaw(lists)) { case (?reason) return #err reason; case null {} };
        case null {};
      };
      switch (change.settings) {
        case (?settings) switch (Policy.change(s.policy, settings, true)) {
          case (#err reason) return #err reason;
          case (#ok policy) s.policy := policy;
        };
        case null {};
      };
      switch (change.access) { case (?lists) Access.change(s.access, lists); case null {} };
      #ok;
    };

    /// Changes settings and lists. The caller must have checked that a controller asks.
    public func configure<system>(change : Install) : Outcome<()> {
      ignore observe();
      let result = apply(change);
      arm<system>();
      result;
    };

    // --- The timer --------------------------------------------------------------------------------------

    func wake(now : Nat64) : ?Nat64 {
      if (Store.interrupted(s) != null) return ?now;
      let seeding = if (s.ids.seeded) null else ?seedDue;
      let due = switch (Set.min(s.due)) { case (?(time, _)) ?time; case null null };
      // While tombstones are kept, time is observed often enough for them.
      let glance = if (Map.isEmpty(s.receivers)) null else ?(s.clock.seen + s.policy.time_gap / 2);
      Policy.earliest([due, glance, seeding]);
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
          if (earlier <= time) return;
          Timer.cancelTimer(id);
        };
        case null {};
      };
      armed := ?(time, Timer.setTimer<system>(#nanoseconds(Nat64.toNat(time - now)), tick));
    };

    func pause() : async () {};

    func tick() : async () {
      armed := null;
      let now = observe();
      // Re-armed, and taken to be doomed, before the work: both are committed by the pause, so a
      // flow that traps costs one tick, is then tried alone, and holds no other up.
      armAt<system>(now, now + s.policy.send_retry);
      let size = s.batch;
      s.batch := 1;
      let work = dueFlows(now, size);
      if (size == 1) {
        for ((time, key) in work.values()) Store.postpone(s, time, key, now + s.policy.send_retry);
      };
      await pause();
      await* lookAfterInterrupted();
      for ((time, key) in work.values()) await* workOn(time, key);
      s.batch := Nat.min(tickFlows, size * 2);
      if (not s.ids.seeded and clock() >= seedDue) await* seed();
      switch armed { case (?(_, id)) { Timer.cancelTimer(id); armed := null }; case null {} };
      arm<system>();
    };

    func dueFlows(now : Nat64, most : Nat) : [(Nat64, Types.Key)] {
      let found = List.empty<(Nat64, Types.Key)>();
      var bytes = 0;
      label fill for ((time, key) in Set.values(s.due)) {
        if (time > now or List.size(found) >= most or bytes > tickBytes) break fill;
        List.add(found, (time, key));
        bytes += bulk(key);
      };
      Array.sort<(Nat64, Types.Key)>(List.toArray(found), func(a, b) : Order_.Order = Nat.compare(urgency(a.1), urgency(b.1)));
    };

    func bulk(key : Types.Key) : Nat {
      switch key {
        case (#sender id) switch (senderFlow(id)) { case (?f) Types.size(f.payload); case null 0 };
        case (#receiver(sender, id)) switch (receiverFlow(sender, id)) { case (?f) Types.size(f.response); case null 0 };
      };
    };

    /// Room goes to FIN, then ACK, then repeated NEW, then new flows.
    func urgency(key : Types.Key) : Nat {
      switch key {
        case (#receiver _) 1;
        case (#sender id) switch (senderFlow(id)) {
          case (?f) if (f.fin_due != null) 0 else if (f.attempts > 0) 2 else 3;
          case null 0;
        };
      };
    };

    func dueOf(key : Types.Key) : ?(Nat64, Principal) {
      switch key {
        case (#sender id) do ? { let f = senderFlow(id)!; (f.due!, f.peer) };
        case (#receiver(sender, id)) do ? { let f = receiverFlow(sender, id)!; (f.due!, sender) };
      };
    };

    func workOn(time : Nat64, key : Types.Key) : async* () {
      // What fell due before this start is spread.
      if (time < s.started) await* on(key, #restarted { share = Ulid.below(s.ids, 1_000_000) }, true);
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
      var n = 0;
      label look while (n < tickFlows) {
        switch (Store.interrupted(s)) {
          case (?key) {
            await* on(key, #restarted { share = Ulid.below(s.ids, 1_000_000) }, true);
            Store.seenTo(s, key);
          };
          case null break look;
        };
        n += 1;
      };
    };

    func seed() : async* () {
      try { Ulid.seed(s.ids, await management.raw_rand()) } catch (_) {
        Store.count(s, "raw_rand failed");
        seedDue := clock() + s.policy.send_retry;
      };
    };

    // --- Start: installation, upgrade -----------------------------------------------------------------------

    switch install {
      case (?change) switch (apply(change)) {
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
