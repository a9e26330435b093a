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
  /// NEW, ACK and FIN, as the dialect `unified` carries them.
  public type Message = Types.Message;
  public type Dialect = Types.Dialect;
  public type Role = Types.Role;

  /// A NEW, handed to the receiver's application.
  public type Request = App.Request;

  /// What a handler makes of a request, at once or by work that may await.
  public type Reply = App.Reply;
  public type Answer = App.Answer;

  /// The handlers of an application, and what it promises of them.
  public type Application = App.Application;
  public type Handler = App.Handler;
  public type Listener = App.Listener;

  /// What the application is told of a flow: its outcome, or that it is stalled, abandoned, forgotten.
  public type Tell = Types.Tell;
  public type Telling = Types.Telling;

  /// A question to the corruption handler, and its answer.
  public type Ask = Types.Ask;
  public type Decision = Types.Decision;

  /// Which flow is meant: an id of our own, or a sender and its id.
  public type Key = Types.Key;

  /// Why a flow failed: `unsent` and `refused` say that the request was certainly not done.
  public type Failure = Types.Failure;

  /// A flow as it is stored.
  public type SenderFlow = Types.SenderFlow;
  public type ReceiverFlow = Types.ReceiverFlow;

  /// The install argument: settings, lists, and what is configured for single peers; all optional.
  public type Install = Install.Install;
  public type Settings = Policy.Settings;

  /// What an actor keeps in a stable variable, whichever version of the library wrote it.
  public type State = Layouts.Kept;

  /// One sender, receiver or both, as an actor makes it at every start.
  public type Node = NodeModule.Node;
  public let Node = NodeModule.Node;

  /// A state without flows.
  public let empty = Layouts.empty;

  /// The same state in the present layout: to be assigned to the stable variable at every start.
  public let upToDate = Layouts.upToDate;

  /// An application with no handlers, to be extended: `{ AsyncFlow.none with ... }`.
  public let none = App.none;

  /// An application that answers requests at once.
  public let receiver = App.receiver;

  /// An application that opens flows and hears how they end.
  public let sender = App.sender;

  /// An application that does both.
  public let both = App.both;

  /// Whether this canister keeps a flow of its own with this id.
  public func opened(state : State, id : Nat) : Bool { Map.containsKey(Layouts.current(state).senders, Nat.compare, id) };

  /// Whether this canister keeps a flow that this sender opened.
  public func received(state : State, sender : Principal, id : Nat) : Bool {
    Map.containsKey(Layouts.current(state).receivers, Order.peerId, (sender, id));
  };

  /// Why a reference canister rejects a call to the methods that drive it.
  public let driversOnly = "only controllers, monitors and listed agents may call this method";

  /// CRC-32 of a payload, as the protocol compares them.
  public let hash = Types.hash;
};
