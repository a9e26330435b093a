/// The cycles ledger of a development network: what tools expect at um5iw-rqaaa-aaaaq-qaaba-cai.
///
/// Balances are cycles that this canister holds: it takes them in by `deposit`, and hands them out by
/// `withdraw` and `create_canister`. What users hold from the beginning (`parts/Book.mo`) is backed by the
/// cycles that the network gave this canister.

import Cycles "mo:core/Cycles";
import Error "mo:core/Error";
import Map "mo:core/Map";
import Nat "mo:core/Nat";
import Principal "mo:core/Principal";
import Runtime "mo:core/Runtime";
import Book "parts/Book";
import Canisters "parts/Canisters";
import Icrc "parts/Icrc";
import Token "parts/Token";

persistent actor class CyclesLedger(install : { grant : Nat }) {
  let fee = 100_000_000;
  let book = Book.empty();
  let made = Map.empty<Nat, Principal>(); // block -> the canister that it paid for
  transient let token : Token.Token = {
    name = "Cycles";
    symbol = "TCYCLES";
    decimals = 12;
    terms = { fee; grant = install.grant };
    minting = null;
  };
  include Icrc(book, token);

  type Rejection = {
    #NoError;
    #SysFatal;
    #SysTransient;
    #DestinationInvalid;
    #CanisterReject;
    #CanisterError;
    #Unknown;
  };

  type WithdrawError = {
    #BadFee : { expected_fee : Nat };
    #InvalidReceiver : { receiver : Principal };
    #InsufficientFunds : { balance : Nat };
    #TooOld;
    #CreatedInFuture : { ledger_time : Nat64 };
    #Duplicate : { duplicate_of : Nat };
    #FailedToWithdraw : { fee_block : ?Nat; rejection_code : Rejection; rejection_reason : Text };
    #TemporarilyUnavailable;
    #GenericError : { error_code : Nat; message : Text };
  };

  type CreateError = {
    #InsufficientFunds : { balance : Nat };
    #TooOld;
    #CreatedInFuture : { ledger_time : Nat64 };
    #Duplicate : { duplicate_of : Nat; canister_id : ?Principal };
    #FailedToCreate : { fee_block : ?Nat; refund_block : ?Nat; error : Text };
    #TemporarilyUnavailable;
    #GenericError : { error_code : Nat; message : Text };
  };

  func rejection(error : Error) : Rejection {
    switch (Error.code(error)) {
      case (#system_fatal) #SysFatal;
      case (#system_transient) #SysTransient;
      case (#destination_invalid) #DestinationInvalid;
      case (#canister_reject) #CanisterReject;
      case (#canister_error) #CanisterError;
      case _ #Unknown;
    };
  };

  func about(created : ?Nat64) : Book.About { { memo = null; number = 0; created; time = Token.now() } };

  /// Credits the cycles that are attached to the call, less the fee.
  public func deposit(args : { to : Book.Account; memo : ?Blob }) : async { balance : Nat; block_index : Nat } {
    let account = Book.place(args.to);
    let offered = Cycles.available();
    if (offered < fee) Runtime.trap("a deposit must exceed the fee of " # debug_show fee # " cycles");
    let amount = Cycles.accept<system>(offered) - fee : Nat;
    let block_index = Book.mint(book, account.id, amount, { about(null) with memo = args.memo });
    { balance = Book.balance(book, token.terms, account); block_index };
  };

  type WithdrawArgs = { amount : Nat; from_subaccount : ?Blob; to : Principal; created_at_time : ?Nat64 };

  /// Sends cycles to a canister.
  public shared ({ caller }) func withdraw(args : WithdrawArgs) : async { #Ok : Nat; #Err : WithdrawError } {
    if (not Principal.isCanister(args.to)) return #Err(#InvalidReceiver { receiver = args.to });
    let from = Book.place({ owner = caller; subaccount = args.from_subaccount });
    let mark = about(args.created_at_time);
    let transaction = to_candid (caller, "withdraw", args);
    switch (Book.objection(book, transaction, args.created_at_time, mark.time)) {
      case (?objection) return #Err(objection);
      case null {};
    };
    let block = switch (Book.burn(book, token.terms, from, args.amount, fee, mark)) {
      case (#Ok index) index;
      case (#Err e) return #Err(e);
    };
    Book.remember(book, transaction, args.created_at_time, block, mark.time);
    try {
      await (with cycles = args.amount) Canisters.management.deposit_cycles({ canister_id = args.to });
      #Ok(block);
    } catch error {
      // The fee is spent; what was to be sent is the caller's again.
      ignore Book.mint(book, from.id, args.amount, about(null));
      #Err(#FailedToWithdraw { fee_block = ?block; rejection_code = rejection(error); rejection_reason = Error.message(error) });
    };
  };

  type CreateArgs = {
    from_subaccount : ?Blob;
    created_at_time : ?Nat64;
    amount : Nat;
    creation_args : ?{ subnet_selection : ?Canisters.SubnetSelection; settings : ?Canisters.Settings };
  };

  /// Creates a canister that holds `amount` cycles, by the cycles minting canister.
  public shared ({ caller }) func create_canister(args : CreateArgs) : async {
    #Ok : { block_id : Nat; canister_id : Principal };
    #Err : CreateError;
  } {
    let from = Book.place({ owner = caller; subaccount = args.from_subaccount });
    let mark = about(args.created_at_time);
    let transaction = to_candid (caller, "create_canister", args);
    switch (Book.objection(book, transaction, args.created_at_time, mark.time)) {
      case (?(#Duplicate { duplicate_of })) return #Err(#Duplicate { duplicate_of; canister_id = Map.get(made, Nat.compare, duplicate_of) });
      case (?(#TooOld)) return #Err(#TooOld);
      case (?(#CreatedInFuture e)) return #Err(#CreatedInFuture e);
      case null {};
    };
    let block_id = switch (Book.burn(book, token.terms, from, args.amount, fee, mark)) {
      case (#Ok index) index;
      case (#Err e) return #Err(e);
    };
    Book.remember(book, transaction, args.created_at_time, block_id, mark.time);
    let (selection, settings) = switch (args.creation_args) {
      case (?given) (given.subnet_selection, given.settings);
      case null (null, null);
    };
    let owned = Canisters.controlled(settings, caller);
    let failed = try {
      switch (await (with cycles = args.amount) Canisters.minting.create_canister({ subnet_selection = selection; subnet_type = null; settings = ?owned })) {
        case (#Ok canister_id) {
          Map.add(made, Nat.compare, block_id, canister_id);
          return #Ok({ block_id; canister_id });
        };
        case (#Err(#Refunded { refund_amount; create_error })) (refund_amount, create_error);
      };
    } catch error (args.amount, Error.message(error));
    let (refund, error) = failed;
    let refund_block = if (refund == 0) null else ?Book.mint(book, from.id, refund, about(null));
    #Err(#FailedToCreate { fee_block = ?block_id; refund_block; error });
  };
};
