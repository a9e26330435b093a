/// Async Flow: requests and responses between canisters without awaiting a peer.
///
/// ```motoko
/// var flows = AsyncFlow.empty();
/// flows := AsyncFlow.upToDate(flows);
/// transient let node = AsyncFlow.Node<system>(flows, AsyncFlow.receiver(handle), null);
/// include Endpoint(node);
/// include Operations(node);
/// ```

import Map "mo:core/Map";
import Nat "mo:core/Nat";
import App "Application";
import Install "Install";
import Layouts "Layouts";
import NodeModule "Node";
import Order "Order";
import Policy "Policy";
import Types "Types";

module {
  public type Message = Types.Message;
  public type Dialect = Types.Dialect;
  public type Request = App.Request;
  public type Reply = App.Reply;
  public type Answer = App.Answer;
  public type Application = App.Application;
  public type Tell = Types.Tell;
  public type Ask = Types.Ask;
  public type Key = Types.Key;
  public type Decision = Types.Decision;
  public type Failure = Types.Failure;
  public type Install = Install.Install;
  public type Settings = Policy.Settings;
  public type State = Layouts.Kept;

  public type Node = NodeModule.Node;
  public let Node = NodeModule.Node;

  /// What an actor keeps in a stable variable.
  public let empty = Layouts.empty;

  /// The same in the present layout, whichever version of the library kept it.
  public let upToDate = Layouts.upToDate;

  /// An application with no handlers, to be extended: `{ AsyncFlow.none with ... }`.
  public let none = App.none;
  public let receiver = App.receiver;
  public let sender = App.sender;
  public let both = App.both;

  /// Whether this canister keeps a flow of its own with this id.
  public func opened(state : State, id : Nat) : Bool { Map.containsKey(Layouts.current(state).senders, Nat.compare, id) };

  /// Whether this canister keeps a flow that this sender opened.
  public func received(state : State, sender : Principal, id : Nat) : Bool {
    Map.containsKey(Layouts.current(state).receivers, Order.peerId, (sender, id));
  };

  public let driversOnly = "only controllers, monitors and listed agents may call this method";

  /// CRC-32 of a payload, as the protocol compares them.
  public let hash = Types.hash;
};
