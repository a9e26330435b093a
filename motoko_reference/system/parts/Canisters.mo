/// What the system's canisters call: the management canister, and each other at their well-known ids.

import Book "Book";
import Icp "Icp";
import Token "Token";

module {
  public type Settings = {
    controllers : ?[Principal];
    compute_allocation : ?Nat;
    memory_allocation : ?Nat;
    freezing_threshold : ?Nat;
    reserved_cycles_limit : ?Nat;
  };

  public type SubnetSelection = { #Subnet : { subnet : Principal }; #Filter : { subnet_type : ?Text } };

  public type CreateCanisterArg = {
    subnet_selection : ?SubnetSelection;
    subnet_type : ?Text; // the older way to choose
    settings : ?Settings;
  };

  public type CreateCanisterResult = {
    #Ok : Principal;
    #Err : { #Refunded : { refund_amount : Nat; create_error : Text } };
  };

  public let management = actor "aaaaa-aa" : actor {
    create_canister : { settings : ?Settings; sender_canister_version : ?Nat64 } -> async { canister_id : Principal };
    deposit_cycles : { canister_id : Principal } -> async ();
  };

  public let minting = actor "rkp4c-7iaaa-aaaaa-aaaca-cai" : actor {
    create_canister : CreateCanisterArg -> async CreateCanisterResult;
  };

  public let cyclesLedger = actor "um5iw-rqaaa-aaaaq-qaaba-cai" : actor {
    deposit : { to : Book.Account; memo : ?Blob } -> async { balance : Nat; block_index : Nat };
  };

  public let icpLedger = actor "ryjl3-tyaaa-aaaaa-aaaba-cai" : actor {
    query_blocks : query Icp.Range -> async Icp.Blocks;
    icrc1_transfer : Token.TransferArgs -> async { #Ok : Nat; #Err : Token.TransferError };
  };

  /// These settings, with a controller if they name none.
  public func controlled(settings : ?Settings, who : Principal) : Settings {
    switch settings {
      case (?given) {
        { given with controllers = switch (given.controllers) { case (?some) ?some; case null ?[who] } };
      };
      case null {
        {
          controllers = ?[who];
          compute_allocation = null;
          memory_allocation = null;
          freezing_threshold = null;
          reserved_cycles_limit = null;
        };
      };
    };
  };
};
