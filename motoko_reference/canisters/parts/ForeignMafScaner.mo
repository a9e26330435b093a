/// How the sample canisters of the published package are looked at and stopped; spelled as there.

import ForeignMaf "ForeignMaf";

mixin (collection : ForeignMaf.Collection) {
  public func count() : async Nat { collection.count() };
  public func message_default() : async ?ForeignMaf.MessageStatus { collection.first() };
  public func collection_by_time() : async [?ForeignMaf.MessageStatus] { collection.statuses() };
  public func status_scaner() : async { #OFF; #ON } { if (collection.isOn()) #ON else #OFF };
  public func start_scaner() : () { collection.start<system>() };
  public func stop_scaner() : () { collection.stop() };
  public func restart_scaner() : () { collection.stop(); collection.start<system>() };
  public func clear() : () { collection.clear() };

  /// What the application was given, in order, each time that it was.
  public query func received() : async [ForeignMaf.Received] { collection.all() };

  /// Instructions used since the last start: by scans, and for all else that flows cost.
  public query func worked() : async { scans : Nat64; flows : Nat64 } {
    { scans = collection.work.scans; flows = collection.work.flows };
  };
};
