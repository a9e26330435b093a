/// How messages leave: into an agent's outbox, or as a one-way call, alone or with others in a batch.

import Array "mo:core/Array";
import Cycles "mo:core/Cycles";
import List "mo:core/List";
import Map "mo:core/Map";
import Nat32 "mo:core/Nat32";
import Nat64 "mo:core/Nat64";
import Principal "mo:core/Principal";
import Dialects "Dialects";
import InFlight "InFlight";
import Outbox "Outbox";
import Peer "Peer";
import Peers "Peers";
import Policy "Policy";
import Store "Store";
import Types "Types";

module {
  /// A flow and its transmission.
  public type Leaving = (Types.Key, Types.Transmit);

  // The most that one batch carries.
  public let batchMessages = 100;
  public let batchBytes = 1_900_000;

  public class Calls(s : Store.State, clock : () -> Nat64) {
    // While a tick works, what may travel in a batch is gathered here, by peer.
    var gathered : ?Map.Map<Principal, List.List<Leaving>> = null;

    public func hasRoom(peer : Principal) : Bool {
      Peer.classify(peer) != #canister or InFlight.count(s.calls, peer) < Nat32.toNat(s.policy.in_flight);
    };

    /// The bounded wait of a call, in whole seconds.
    public func timeout() : Nat32 { Nat32.max(1, Policy.seconds(s.policy.call_timeout)) };

    func until(kind : Types.Kind) : Nat64 {
      clock() + (if (kind == #fin) s.policy.send_retry else s.policy.call_timeout + s.policy.call_margin);
    };

    /// False if it certainly did not leave. What is gathered counts as left until `flush`.
    public func transmit(key : Types.Key, t : Types.Transmit) : async* Bool {
      if (Peer.classify(t.peer) == #agent) {
        let left = Outbox.put(s.outbox, t.peer, t.message, Nat32.toNat(s.policy.outbox_messages), Nat64.toNat(s.policy.outbox_bytes));
        return done((key, t), left);
      };
      switch gathered {
        // What went in a batch and was not answered is retried alone, so every second attempt is.
        case (?peers) if (t.attempt % 2 == 1 and t.dialect == #unified and Peers.takesBatches(s.peers, t.peer)) {
          gather(peers, (key, t));
          return true;
        };
        case null {};
      };
      await* alone((key, t));
    };

    /// To attach more cycles than there are would trap instead of failing at once.
    func affordable(cycles : Nat) : Bool { cycles == 0 or cycles <= Cycles.balance() };

    func alone(leaving : Leaving) : async* Bool {
      let t = leaving.1;
      let kind = Types.kindOf(t.message);
      let cycles = Peers.attach(s.peers, t.peer, s.policy, kind);
      let left = affordable(cycles) and (try {
        await* Dialects.call(t.peer, t.dialect, t.message, timeout(), cycles);
        InFlight.add(s.calls, t.peer, [(kind, Types.idOf(t.message))], until(kind));
        true;
      } catch (_) false);
      done(leaving, left);
    };

    func done(leaving : Leaving, left : Bool) : Bool {
      let t = leaving.1;
      Peers.sent(s.peers, t.peer);
      Store.count(s, switch (t.message) {
        case (#NEW _) if left "sent.NEW" else "not_sent.NEW";
        case (#ACK _) if left "sent.ACK" else "not_sent.ACK";
        case (#FIN _) if left "sent.FIN" else "not_sent.FIN";
      });
      left;
    };

    // --- Batches ------------------------------------------------------------------------------------

    /// From now on, within this message, what may travel together waits for `flush`.
    public func begin() { gathered := ?Map.empty() };

    func gather(peers : Map.Map<Principal, List.List<Leaving>>, leaving : Leaving) {
      let peer = leaving.1.peer;
      switch (Map.get(peers, Principal.compare, peer)) {
        case (?some) List.add(some, leaving);
        case null Map.add(peers, Principal.compare, peer, List.singleton<Leaving>(leaving));
      };
    };

    /// Sends what was gathered; what certainly did not leave.
    public func flush() : async* [Leaving] {
      let ?peers = gathered else return [];
      let lost = List.empty<Leaving>();
      gathered := null;
      for ((peer, all) in Map.entries(peers)) {
        var group = List.empty<Leaving>();
        var bytes = 0;
        for (one in List.values(all)) {
          let size = Outbox.sizeOf(one.1.message);
          if (List.size(group) >= batchMessages or (bytes > 0 and bytes + size > batchBytes)) {
            List.addAll(lost, (await* together(peer, List.toArray(group))).values());
            group := List.empty();
            bytes := 0;
          };
          List.add(group, one);
          bytes += size;
        };
        List.addAll(lost, (await* together(peer, List.toArray(group))).values());
      };
      List.toArray(lost);
    };

    /// What of the group did not leave.
    func together(peer : Principal, group : [Leaving]) : async* [Leaving] {
      if (group.size() == 1) return if (await* alone(group[0])) [] else group;
      let messages = Array.map<Leaving, Types.Message>(group, func((_, t)) = t.message);
      let slots = Array.map<Types.Message, (Types.Kind, Nat)>(messages, func m = (Types.kindOf(m), Types.idOf(m)));
      var cycles = 0;
      var end : Nat64 = 0;
      for ((kind, _) in slots.values()) {
        cycles += Peers.attach(s.peers, peer, s.policy, kind);
        end := Nat64.max(end, until(kind));
      };
      let left = affordable(cycles) and (try {
        await* Dialects.callBatch(peer, messages, timeout(), cycles);
        InFlight.add(s.calls, peer, slots, end);
        Store.count(s, "sent.batch");
        true;
      } catch (_) false);
      for (leaving in group.values()) ignore done(leaving, left);
      if left [] else group;
    };
  };
};
