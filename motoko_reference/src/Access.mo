/// Who may send to this canister, who may watch it.

import Principal "mo:core/Principal";
import Set "mo:core/Set";
import Peer "Peer";

module {
  public type State = {
    var canisters : ?Set.Set<Principal>; // null: every canister
    var agents : Set.Set<Principal>;
    var monitors : Set.Set<Principal>;
  };

  /// As a controller gives it (candid/settings.did).
  public type Lists = {
    canisters : ?[Principal];
    agents : [Principal];
    monitors : [Principal];
  };

  public func empty() : State {
    { var canisters = null; var agents = Set.empty(); var monitors = Set.empty() };
  };

  func set(principals : [Principal]) : Set.Set<Principal> {
    Set.fromIter(principals.values(), Principal.compare);
  };

  /// Why these lists are bad, or null.
  public func flaw(lists : Lists) : ?Text {
    for (agent in lists.agents.values()) {
      if (Peer.classify(agent) != #agent) return ?("an agent must be self-authenticating: " # Principal.toText(agent));
    };
    switch (lists.canisters) {
      case (?canisters) for (canister in canisters.values()) {
        if (Peer.classify(canister) != #canister) return ?("not a canister's principal: " # Principal.toText(canister));
      };
      case null {};
    };
    for (monitor in lists.monitors.values()) {
      if (Principal.isAnonymous(monitor)) return ?"the anonymous principal cannot be a monitor";
    };
    null;
  };

  public func change(state : State, lists : Lists) {
    state.canisters := switch (lists.canisters) { case (?some) ?set(some); case null null };
    state.agents := set(lists.agents);
    state.monitors := set(lists.monitors);
  };

  func has(principals : Set.Set<Principal>, who : Principal) : Bool {
    Set.contains(principals, Principal.compare, who);
  };

  public func isAgent(state : State, who : Principal) : Bool { has(state.agents, who) };

  /// Whether this peer stands on a list of its own, which gives it the full quota.
  public func isListed(state : State, who : Principal) : Bool {
    isAgent(state, who) or (switch (state.canisters) { case (?some) has(some, who); case null false });
  };

  /// Whether this canister or agent may open flows here.
  public func maySend(state : State, who : Principal) : Bool {
    isAgent(state, who) or (
      Peer.classify(who) == #canister and (switch (state.canisters) { case (?some) has(some, who); case null true })
    );
  };

  public func mayWatch(state : State, who : Principal) : Bool {
    has(state.monitors, who) or Principal.isController(who);
  };
};
