/// The roles that a player takes: both, or the one that its install argument names.

import AsyncFlow "mo:async-flow";

module {
  public type Role = { #sender; #receiver };
  public type Install = AsyncFlow.Install and { role : ?Role };

  /// The application without what belongs to the other role.
  public func alone(application : AsyncFlow.Application, role : ?Role) : AsyncFlow.Application {
    switch role {
      case null application;
      case (?#sender) ({ application with handler = null });
      case (?#receiver) ({ application with outcome = null });
    };
  };
};
