/// Where flows live: the actor's persistent memory, with the indices and accounts over it.
///
/// Every write of a flow goes through `putSender` or `putReceiver`, which keep the due index, the
/// usage accounts, the outbox, the restart marks and the history in step. No cost here grows with the
/// number of flows by more than a logarithm; calls and payments that are over are dropped some at a time.

import Map "mo:core/Map";
import Nat "mo:core/Nat";
import Nat32 "mo:core/Nat32";
import Nat64 "mo:core/Nat64";
import Principal "mo:core/Principal";
import Set "mo:core/Set";
import Text "mo:core/Text";
import Access "Access";
import InFlight "InFlight";
import Order "Order";
import Outbox "Outbox";
import Peer "Peer";
import Peers "Peers";
import Policy "Policy";
import Receiver "Receiver";
import Sender "Sender";
import Types "Types";
import Ulid "Ulid";

module {
  /// What flows take up, of one peer or in all.
  public type Usage = {
    var open : Nat;
    var tombstones : Nat;
    var unanswered : Nat; // open flows without an answer: room is set aside for each
    var bytes : Nat; // as stored
  };

  public type Account = { total : Usage; unlisted : Usage; peers : Map.Map<Principal, Usage> };

  /// The receiver's observed time: one step counts at most `time_gap`.
  public type Clock = { var seen : Nat64; var lag : Nat64 };

  public type State = {
    var policy : Policy.Policy;
    access : Access.State;
    peers : Peers.State;
    senders : Map.Map<Nat, Types.SenderFlow>;
    receivers : Map.Map<(Principal, Nat), Types.ReceiverFlow>;
    due : Set.Set<(Nat64, Types.Key)>;
    postponed : Map.Map<Types.Key, Nat64>; // where the due index holds another time than the flow
    var batch : Nat; // due flows in the next tick: 1 while the last tick did not end
    // Flows with a handler at work or an untaken telling, by the number of the start in which that
    // began: what a restart has to look at.
    attention : Map.Map<Types.Key, Nat>;
    oldest : Set.Set<(Nat, Types.Key)>;
    var start : Nat;
    var started : Nat64;
    sending : Account;
    receiving : Account;
    calls : InFlight.State;
    outbox : Outbox.State;
    paid : Map.Map<(Principal, Nat), Nat64>;
    paidEnds : Set.Set<(Nat64, Types.Key)>;
    clock : Clock;
    ids : Ulid.State;
    counters : Map.Map<Text, Nat64>;
    history : Map.Map<Nat64, Types.Change>;
    var nextChange : Nat64;
    var finSecond : Nat64; // the second in which unknown ACKs were last answered
    var finCount : Nat32; // and how many in it
  };

  public func empty() : State {
    {
      var policy = Policy.defaults;
      access = Access.empty();
      peers = Peers.empty();
      senders = Map.empty();
      receivers = Map.empty();
      due = Set.empty();
      postponed = Map.empty();
      var batch = 100;
      attention = Map.empty();
      oldest = Set.empty();
      var start = 0;
      var started = 0;
      sending = account();
      receiving = account();
      calls = InFlight.empty();
      outbox = Outbox.empty();
      paid = Map.empty();
      paidEnds = Set.empty();
      clock = { var seen = 0; var lag = 0 };
      ids = Ulid.empty();
      counters = Map.empty();
      history = Map.empty();
      var nextChange = 1;
      var finSecond = 0;
      var finCount = 0;
    };
  };

  func usage() : Usage { { var open = 0; var tombstones = 0; var unanswered = 0; var bytes = 0 } };
  func account() : Account { { total = usage(); unlisted = usage(); peers = Map.empty() } };

  public func count(s : State, reason : Text) { add(s, reason, 1) };

  public func add(s : State, counter : Text, amount : Nat64) {
    let n : Nat64 = switch (Map.get(s.counters, Text.compare, counter)) { case (?n) n; case null 0 };
    Map.add(s.counters, Text.compare, counter, n +% amount);
  };

  /// First thing in every message: time is observed.
  public func observe(s : State, now : Nat64) {
    if (s.clock.seen != 0 and now > s.clock.seen) {
      let step = now - s.clock.seen;
      if (step > s.policy.time_gap) s.clock.lag += step - s.policy.time_gap;
    };
    if (now > s.clock.seen) s.clock.seen := now;
    InFlight.expire(s.calls, now);
    expirePaid(s, now);
  };

  // --- Writing flows ------------------------------------------------------------------------------

  public func putSender(s : State, id : Nat, old : ?Types.SenderFlow, new : ?Types.SenderFlow, now : Nat64, why : Text) {
    let key = #sender id;
    switch old {
      case (?f) weigh(s.sending, f.peer, true, senderWeight(f), false);
      case null {};
    };
    switch new {
      case (?f) {
        Map.add(s.senders, Nat.compare, id, f);
        weigh(s.sending, f.peer, true, senderWeight(f), true);
      };
      case null Map.remove(s.senders, Nat.compare, id);
    };
    index(s, key, do ? { old!.due! }, do ? { new!.due! });
    attend(
      s,
      key,
      switch new { case (?f) Sender.pending(f) != null or f.state == #corrupt; case null false },
      (do ? { (old!.state, old!.tries) }) != (do ? { (new!.state, new!.tries) }),
    );
    switch (old, new) {
      case (?before, after) {
        if (Peer.classify(before.peer) == #agent) {
          let waits = switch after { case (?f) f.state == #sending; case null false };
          if (before.state == #sending and not waits) Outbox.remove(s.outbox, before.peer, #new, id);
          if (after == null) Outbox.remove(s.outbox, before.peer, #fin, id);
        };
      };
      case _ {};
    };
    let (from, to) = (do ? { old!.state }, do ? { new!.state });
    let peer = switch (new, old) { case (?f, _) f.peer; case (_, ?f) f.peer; case _ return };
    if (from != to) record(s, now, #sender, peer, id, from, to, why);
  };

  public func putReceiver(s : State, key : (Principal, Nat), old : ?Types.ReceiverFlow, new : ?Types.ReceiverFlow, now : Nat64, why : Text) {
    switch old {
      case (?f) weigh(s.receiving, f.peer, f.listed, receiverWeight(f), false);
      case null {};
    };
    switch new {
      case (?f) {
        Map.add(s.receivers, Order.peerId, key, f);
        weigh(s.receiving, f.peer, f.listed, receiverWeight(f), true);
      };
      case null Map.remove(s.receivers, Order.peerId, key);
    };
    index(s, #receiver key, do ? { old!.due! }, do ? { new!.due! });
    attend(
      s,
      #receiver key,
      switch new {
        case (?f) Receiver.pending(f) != null or (f.state == #processing and not f.deferred);
        case null false;
      },
      (do ? { (old!.state, old!.tries) }) != (do ? { (new!.state, new!.tries) }),
    );
    let over = switch new { case (?f) f.state == #finished; case null true };
    if (over and Peer.classify(key.0) == #agent) Outbox.remove(s.outbox, key.0, #ack, key.1);
    let (from, to) = (do ? { old!.state }, do ? { new!.state });
    if (from != to) record(s, now, #receiver, key.0, key.1, from, to, why);
  };

  func index(s : State, key : Types.Key, old : ?Nat64, new : ?Nat64) {
    let held = switch (Map.take(s.postponed, Order.flow, key)) { case (?time) ?time; case null old };
    if (held == new) return;
    switch held { case (?time) Set.remove(s.due, Order.timed, (time, key)); case null {} };
    switch new { case (?time) Set.add(s.due, Order.timed, (time, key)); case null {} };
  };

  /// Holds a due flow back until `until`, without a change of the flow.
  public func postpone(s : State, at : Nat64, key : Types.Key, until : Nat64) {
    Set.remove(s.due, Order.timed, (at, key));
    Set.add(s.due, Order.timed, (until, key));
    Map.add(s.postponed, Order.flow, key, until);
  };

  /// `begun`: what needs attention began in this start. Else a restart has yet to look at it, however
  /// often the flow is written until then.
  func attend(s : State, key : Types.Key, needed : Bool, begun : Bool) {
    switch (Map.get(s.attention, Order.flow, key)) {
      case (?since) {
        if (needed and (not begun or since == s.start)) return;
        Set.remove(s.oldest, Order.aged, (since, key));
        if (not needed) return Map.remove(s.attention, Order.flow, key);
      };
      case null if (not needed) return;
    };
    Map.add(s.attention, Order.flow, key, s.start);
    Set.add(s.oldest, Order.aged, (s.start, key));
  };

  /// A flow that a start before the present one left with a handler at work or an untaken telling.
  public func interrupted(s : State) : ?Types.Key {
    switch (Set.min(s.oldest)) {
      case (?(since, key)) if (since < s.start) ?key else null;
      case null null;
    };
  };

  /// Marks an interrupted flow as seen to in this start.
  public func seenTo(s : State, key : Types.Key) {
    if (Map.containsKey(s.attention, Order.flow, key)) attend(s, key, true, true);
  };

  func record(s : State, time : Nat64, role : Types.Role, peer : Principal, msg_id : Nat, from : ?Types.State, to : ?Types.State, why : Text) {
    let limit = Nat32.toNat(s.policy.events);
    while (Map.size(s.history) >= limit and Map.size(s.history) > 0) {
      switch (Map.minEntry(s.history)) {
        case (?(seq, _)) Map.remove(s.history, Nat64.compare, seq);
        case null {};
      };
    };
    if (limit > 0) Map.add(s.history, Nat64.compare, s.nextChange, { seq = s.nextChange; time; role; peer; msg_id; from; to; why });
    s.nextChange += 1;
  };

  // --- Usage --------------------------------------------------------------------------------------

  type Weight = { open : Bool; unanswered : Bool; bytes : Nat };

  /// Whether room is set aside for this flow's response.
  public func awaitsResponse(f : Types.SenderFlow) : Bool { senderWeight(f).unanswered };

  func senderWeight(f : Types.SenderFlow) : Weight {
    let open = switch (f.state) {
      case (#acknowledged) false;
      case (#failed) not f.told or (f.late and not f.late_taken);
      case _ true;
    };
    { open; unanswered = open and f.response_hash == null; bytes = Types.size(f.payload) + Types.size(f.response) + Types.size(f.wrong_payload) };
  };

  func receiverWeight(f : Types.ReceiverFlow) : Weight {
    let open = switch (f.state) { case (#processing or #stalled or #acknowledging) true; case _ false };
    { open; unanswered = open and f.response_hash == null; bytes = Types.size(f.payload) + Types.size(f.response) };
  };

  func weigh(account : Account, peer : Principal, listed : Bool, weight : Weight, add : Bool) {
    let own = usageOf(account, peer);
    change(own, weight, add);
    change(account.total, weight, add);
    if (not listed) change(account.unlisted, weight, add);
    if (own.open == 0 and own.tombstones == 0) Map.remove(account.peers, Principal.compare, peer);
  };

  func change(usage : Usage, weight : Weight, add : Bool) {
    if add {
      if (weight.open) usage.open += 1 else usage.tombstones += 1;
      if (weight.unanswered) usage.unanswered += 1;
      usage.bytes += weight.bytes;
    } else {
      if (weight.open) usage.open -= 1 else usage.tombstones -= 1;
      if (weight.unanswered) usage.unanswered -= 1;
      usage.bytes -= weight.bytes;
    };
  };

  func usageOf(account : Account, peer : Principal) : Usage {
    switch (Map.get(account.peers, Principal.compare, peer)) {
      case (?own) own;
      case null {
        let own = usage();
        Map.add(account.peers, Principal.compare, peer, own);
        own;
      };
    };
  };

  /// Bytes as the quotas count them: what is stored, and the room set aside.
  public func room(usage : Usage, policy : Policy.Policy) : Nat {
    usage.bytes + usage.unanswered * Nat64.toNat(policy.response_room);
  };

  /// Whether any flow with this peer is kept.
  public func hasFlows(s : State, peer : Principal) : Bool {
    Map.containsKey(s.sending.peers, Principal.compare, peer) or Map.containsKey(s.receiving.peers, Principal.compare, peer);
  };

  /// New flows of one peer that are admitted and not stored yet, and the bytes of their payloads.
  public type Admitted = { flows : Nat; bytes : Nat };

  /// Which quota a new flow of `bytes` would exceed, or null. `before` came before it.
  public func quota(s : State, account : Account, peer : Principal, listed : Bool, bytes : Nat, before : Admitted) : ?Text {
    let p = s.policy;
    let own = switch (Map.get(account.peers, Principal.compare, peer)) { case (?own) own; case null usage() };
    let needed = before.bytes + bytes + (before.flows + 1) * Nat64.toNat(p.response_room);
    let (flows, tombstones, space) = (Nat32.toNat(p.open_flows), Nat32.toNat(p.tombstones), Nat64.toNat(p.bytes));
    if (own.open + before.flows >= Nat32.toNat(p.open_flows_per_peer)) return ?"quota_open_flows_per_peer";
    if (own.tombstones >= Nat32.toNat(p.tombstones_per_peer)) return ?"quota_tombstones_per_peer";
    if (room(own, p) + needed > Nat64.toNat(p.bytes_per_peer)) return ?"quota_bytes_per_peer";
    if (account.total.open + before.flows >= flows) return ?"quota_open_flows";
    if (account.total.tombstones >= tombstones) return ?"quota_tombstones";
    if (room(account.total, p) + needed > space) return ?"quota_bytes";
    if (not listed) {
      let others = account.unlisted;
      if (others.open + before.flows >= flows / 2) return ?"quota_unlisted_open_flows";
      if (others.tombstones >= tombstones / 2) return ?"quota_unlisted_tombstones";
      if (room(others, p) + needed > space / 2) return ?"quota_unlisted_bytes";
    };
    null;
  };

  /// Whether a response of `bytes` fits. Beyond what is set aside, `response_room` if `awaited`, it needs
  /// free bytes.
  public func fits(s : State, account : Account, peer : Principal, listed : Bool, bytes : Nat, awaited : Bool) : Bool {
    let reserved = if awaited Nat64.toNat(s.policy.response_room) else 0;
    if (bytes <= reserved) return true;
    let more = bytes - reserved : Nat;
    let own = switch (Map.get(account.peers, Principal.compare, peer)) { case (?own) own; case null usage() };
    let space = Nat64.toNat(s.policy.bytes);
    room(own, s.policy) + more <= Nat64.toNat(s.policy.bytes_per_peer) and
    room(account.total, s.policy) + more <= space and
    (listed or room(account.unlisted, s.policy) + more <= space / 2);
  };

  // --- Paid marks -----------------------------------------------------------------------------------

  // How many marks a peer has stands among them, under an id that no flow can have.
  func counted(peer : Principal) : (Principal, Nat) { (peer, Types.idLimit) };

  func marksOf(s : State, peer : Principal) : Nat64 {
    switch (Map.get(s.paid, Order.peerId, counted(peer))) { case (?n) n; case null 0 };
  };

  /// Marks a flow that is not stored as paid for. False: as many marks are kept already, of this peer or
  /// in all, as tombstones may be.
  public func rememberPaid(s : State, peer : Principal, id : Nat, until : Nat64) : Bool {
    forgetPaid(s, peer, id);
    let own = marksOf(s, peer);
    if (own >= Nat64.fromNat32(s.policy.tombstones_per_peer)) return false;
    if (Set.size(s.paidEnds) >= Nat32.toNat(s.policy.tombstones)) return false;
    Map.add(s.paid, Order.peerId, (peer, id), until);
    Set.add(s.paidEnds, Order.timed, (until, #receiver(peer, id)));
    Map.add(s.paid, Order.peerId, counted(peer), own + 1);
    true;
  };

  public func hasPaid(s : State, peer : Principal, id : Nat) : Bool {
    Map.containsKey(s.paid, Order.peerId, (peer, id));
  };

  /// Drops the mark of a flow, if there is one.
  public func forgetPaid(s : State, peer : Principal, id : Nat) {
    let ?until = Map.take(s.paid, Order.peerId, (peer, id)) else return;
    Set.remove(s.paidEnds, Order.timed, (until, #receiver(peer, id)));
    // A mark from before marks were counted is in no count.
    let own = marksOf(s, peer);
    if (own <= 1) Map.remove(s.paid, Order.peerId, counted(peer)) else Map.add(s.paid, Order.peerId, counted(peer), own - 1);
  };

  // A batch adds at most a hundred: what is over never piles up, and no message pays for all of it.
  let forgetAtOnce = 200;

  func expirePaid(s : State, now : Nat64) {
    label old for (_ in Nat.range(0, forgetAtOnce)) {
      switch (Set.min(s.paidEnds)) {
        case (?(until, #receiver(peer, id))) {
          if (until > now) break old;
          forgetPaid(s, peer, id);
        };
        case _ break old;
      };
    };
  };
};
