/// What is configured for single peers, and a bounded table of what passes between us and each.

import Array "mo:core/Array";
import Map "mo:core/Map";
import Principal "mo:core/Principal";
import Peer "Peer";
import Policy "Policy";
import Types "Types";

module {
  /// As a controller gives it (candid/settings.did): what is left out is as for all peers.
  public type Given = {
    peer : Principal;
    dialect : ?Types.Dialect; // in which flows to it are opened; `unified` if left out
    null_ack : ?{ #response; #receipt }; // what its null ACKs are
    ids : ?{ #opaque; #ulid }; // whether the time in its ids may be trusted
    batch : ?Bool; // whether it offers `asyncFlow_batch`
    attach_cycles : ?Policy.AttachCycles;
  };

  public type Traffic = { var sent : Nat64; var received : Nat64; var refused : Nat64 };

  /// One row of the table; the row without a peer stands for all that have none of their own.
  public type Row = { peer : ?Principal; sent : Nat64; received : Nat64; refused : Nat64 };

  public type State = {
    given : Map.Map<Principal, Given>;
    traffic : Map.Map<Principal, Traffic>;
    others : Traffic;
  };

  // Rows of the traffic table: bounded, since anybody can send.
  let rows = 256;
  let mostGiven = 10_000;

  func traffic() : Traffic { { var sent = 0; var received = 0; var refused = 0 } };

  public func empty() : State { { given = Map.empty(); traffic = Map.empty(); others = traffic() } };

  /// Why these settings are bad, or null.
  public func flaw(state : State, given : [Given]) : ?Text {
    if (Map.size(state.given) + given.size() > mostGiven) return ?"too many peers are configured";
    for (g in given.values()) {
      if (Peer.classify(g.peer) == #other) return ?("no canister or agent: " # Principal.toText(g.peer));
    };
    null;
  };

  /// Each entry replaces what was configured for its peer.
  public func change(state : State, given : [Given]) {
    for (g in given.values()) {
      if (g.dialect == null and g.null_ack == null and g.ids == null and g.batch == null and g.attach_cycles == null) {
        Map.remove(state.given, Principal.compare, g.peer);
      } else Map.add(state.given, Principal.compare, g.peer, g);
    };
  };

  func of(state : State, peer : Principal) : ?Given { Map.get(state.given, Principal.compare, peer) };

  public func dialect(state : State, peer : Principal) : Types.Dialect {
    switch (do ? { of(state, peer)!.dialect! }) { case (?d) d; case null #unified };
  };

  public func nullAck(state : State, peer : Principal) : { #response; #receipt } {
    switch (do ? { of(state, peer)!.null_ack! }) { case (?n) n; case null #response };
  };

  public func trustsIds(state : State, peer : Principal) : Bool { (do ? { of(state, peer)!.ids! }) == ?#ulid };

  public func takesBatches(state : State, peer : Principal) : Bool { (do ? { of(state, peer)!.batch! }) == ?true };

  public func attach(state : State, peer : Principal, policy : Policy.Policy, kind : Types.Kind) : Nat {
    let amounts = switch (do ? { of(state, peer)!.attach_cycles! }) { case (?own) own; case null policy.attach_cycles };
    switch kind { case (#new) amounts.new; case (#ack) amounts.ack; case (#fin) amounts.fin };
  };

  func row(state : State, peer : Principal) : Traffic {
    switch (Map.get(state.traffic, Principal.compare, peer)) {
      case (?t) t;
      case null {
        if (Map.size(state.traffic) >= rows) return state.others;
        let t = traffic();
        Map.add(state.traffic, Principal.compare, peer, t);
        t;
      };
    };
  };

  public func sent(state : State, peer : Principal) { let t = row(state, peer); t.sent += 1 };
  public func received(state : State, peer : Principal) { let t = row(state, peer); t.received += 1 };
  public func refused(state : State, peer : Principal) { let t = row(state, peer); t.refused += 1 };

  public func table(state : State) : [Row] {
    func view(peer : ?Principal, t : Traffic) : Row { { peer; sent = t.sent; received = t.received; refused = t.refused } };
    let known = Map.entries(state.traffic);
    let others = [view(null, state.others)];
    let shown = Map.size(state.traffic);
    Array.tabulate<Row>(shown + 1, func i {
      if (i == shown) return others[0];
      switch (known.next()) { case (?(peer, t)) view(?peer, t); case null others[0] };
    });
  };
};
