/// What monitors read: status, flows page by page, the bounded history (candid/watch.did).

import Iter "mo:core/Iter";
import List "mo:core/List";
import Map "mo:core/Map";
import Nat "mo:core/Nat";
import Nat32 "mo:core/Nat32";
import Nat64 "mo:core/Nat64";
import Set "mo:core/Set";
import Prim "mo:⛔"; // for the heap's size, which mo:core does not offer
import InFlight "InFlight";
import Order "Order";
import Outbox "Outbox";
import Peers "Peers";
import Policy "Policy";
import Store "Store";
import Types "Types";

module {
  public let version = "0.1.0";

  // The most flows that one page looks at, so that a filter which matches nothing stays cheap.
  let pageFlows = 5_000;
  let pageMost = 1_000;

  public type Status = {
    version : Text;
    time : Nat64;
    counters : [(Text, Nat64)];
    gauges : [(Text, Nat64)];
    horizon : Nat64;
    settings : Policy.Policy;
    peers : [Peers.Row];
  };

  public type FlowsQuery = { role : ?Types.Role; state : ?Types.State; cursor : ?Blob; limit : Nat32 };
  public type FlowsPage = { flows : [Types.FlowView]; next : ?Blob };

  public func status(s : Store.State, now : Nat64) : Status {
    func gauge(name : Text, n : Nat) : (Text, Nat64) { (name, Nat64.fromNat(n)) };
    func account(name : Text, a : Store.Account) : [(Text, Nat64)] {
      [
        gauge(name # " open flows", a.total.open),
        gauge(name # " tombstones", a.total.tombstones),
        gauge(name # " bytes", Store.room(a.total, s.policy)),
        gauge(name # " peers", Map.size(a.peers)),
      ];
    };
    let gauges = List.empty<(Text, Nat64)>();
    List.addAll(gauges, account("sender", s.sending).values());
    List.addAll(gauges, account("receiver", s.receiving).values());
    List.add(gauges, gauge("in flight", InFlight.size(s.calls)));
    List.add(gauges, gauge("outbox messages", Outbox.messages(s.outbox)));
    List.add(gauges, gauge("due flows", Set.size(s.due)));
    List.add(gauges, gauge("events kept", Map.size(s.history)));
    List.add(gauges, ("time lag", s.clock.lag));
    List.add(gauges, gauge("starts", s.start));
    List.add(gauges, gauge("heap bytes", Prim.rts_heap_size()));
    {
      version;
      time = now;
      counters = Iter.toArray(Map.entries(s.counters));
      gauges = List.toArray(gauges);
      horizon = s.policy.horizon;
      settings = s.policy;
      peers = Peers.table(s.peers);
    };
  };

  func senderView(f : Types.SenderFlow) : Types.FlowView { { f with role = #sender } };

  func receiverView(f : Types.ReceiverFlow) : Types.FlowView {
    { f with role = #receiver; failure = null; late = false };
  };

  /// One page: senders by id, then receivers by peer and id. `cursor` is a former page's `next`.
  public func flows(s : Store.State, q : FlowsQuery) : FlowsPage {
    let found = List.empty<Types.FlowView>();
    let most = Nat.min(Nat32.toNat(q.limit), pageMost);
    var looked = 0;
    let from : ?Types.Key = switch (q.cursor) { case (?blob) from_candid (blob); case null null };
    func matches(state : Types.State) : Bool { switch (q.state) { case (?wanted) wanted == state; case null true } };
    func full() : Bool { List.size(found) >= most or looked >= pageFlows };
    func page(next : ?Types.Key) : FlowsPage {
      { flows = List.toArray(found); next = switch next { case (?key) ?to_candid (key); case null null } };
    };
    if (most == 0) return page(null);
    let senders = switch (q.role, from) {
      case (?#receiver, _) Iter.empty<(Nat, Types.SenderFlow)>();
      case (_, ?#receiver _) Iter.empty<(Nat, Types.SenderFlow)>();
      case (_, ?#sender id) Map.entriesFrom(s.senders, Nat.compare, id);
      case (_, null) Map.entries(s.senders);
    };
    for ((id, flow) in senders) {
      if (full()) return page(?#sender id);
      if (matches(flow.state)) List.add(found, senderView(flow));
      looked += 1;
    };
    let receivers = switch (q.role, from) {
      case (?#sender, _) Iter.empty<((Principal, Nat), Types.ReceiverFlow)>();
      case (_, ?#receiver key) Map.entriesFrom(s.receivers, Order.peerId, key);
      case _ Map.entries(s.receivers);
    };
    for ((key, flow) in receivers) {
      if (full()) return page(?#receiver key);
      if (matches(flow.state)) List.add(found, receiverView(flow));
      looked += 1;
    };
    page(null);
  };

  /// Changes after number `after`, oldest first.
  public func events(s : Store.State, after : Nat64, limit : Nat32) : [Types.Change] {
    if (after == 0xFFFF_FFFF_FFFF_FFFF) return [];
    let later = Map.entriesFrom(s.history, Nat64.compare, after + 1);
    let changes = Iter.map<(Nat64, Types.Change), Types.Change>(later, func((_, change)) = change);
    Iter.toArray(Iter.take(changes, Nat.min(Nat32.toNat(limit), pageMost)));
  };
};
