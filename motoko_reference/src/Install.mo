/// The install argument, and what a controller changes later (candid/settings.did).

import Access "Access";
import Peers "Peers";
import Policy "Policy";
import Store "Store";

module {
  public type Install = {
    settings : ?Policy.Settings;
    access : ?Access.Lists;
    peers : ?[Peers.Given];
  };

  /// Applies all of it, or nothing and says why.
  public func apply(s : Store.State, change : Install, priced : Bool) : Policy.Outcome<()> {
    switch (change.access) {
      case (?lists) switch (Access.flaw(lists)) { case (?reason) return #err reason; case null {} };
      case null {};
    };
    switch (change.peers) {
      case (?given) switch (Peers.flaw(s.peers, given)) { case (?reason) return #err reason; case null {} };
      case null {};
    };
    switch (change.settings) {
      case (?settings) switch (Policy.change(s.policy, settings, not priced)) {
        case (#err reason) return #err reason;
        case (#ok policy) s.policy := policy;
      };
      case null {};
    };
    switch (change.access) { case (?lists) Access.change(s.access, lists); case null {} };
    switch (change.peers) { case (?given) Peers.change(s.peers, given); case null {} };
    #ok;
  };
};
