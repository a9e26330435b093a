/// What the public methods of both ledgers speak of: the types of ICRC-1 and ICRC-2, a token's terms.

import Nat8 "mo:core/Nat8";
import Nat64 "mo:core/Nat64";
import Runtime "mo:core/Runtime";
import Int "mo:core/Int";
import Time "mo:core/Time";
import Book "Book";

module {
  public type Value = { #Nat : Nat; #Int : Int; #Text : Text; #Blob : Blob };

  /// What a ledger says of itself.
  public type Token = {
    name : Text;
    symbol : Text;
    decimals : Nat8;
    terms : Book.Terms;
    minting : ?Book.Account; // where tokens come from and are burned
  };

  public type TransferArgs = {
    from_subaccount : ?Blob;
    to : Book.Account;
    amount : Nat;
    fee : ?Nat;
    memo : ?Blob;
    created_at_time : ?Nat64;
  };

  public type TransferFromArgs = {
    spender_subaccount : ?Blob;
    from : Book.Account;
    to : Book.Account;
    amount : Nat;
    fee : ?Nat;
    memo : ?Blob;
    created_at_time : ?Nat64;
  };

  public type ApproveArgs = {
    from_subaccount : ?Blob;
    spender : Book.Account;
    amount : Nat;
    expected_allowance : ?Nat;
    expires_at : ?Nat64;
    fee : ?Nat;
    memo : ?Blob;
    created_at_time : ?Nat64;
  };

  type Common = {
    #BadFee : { expected_fee : Nat };
    #InsufficientFunds : { balance : Nat };
    #TooOld;
    #CreatedInFuture : { ledger_time : Nat64 };
    #Duplicate : { duplicate_of : Nat };
    #TemporarilyUnavailable;
    #GenericError : { error_code : Nat; message : Text };
  };

  public type TransferError = Common or { #BadBurn : { min_burn_amount : Nat } };

  public type TransferFromError = TransferError or { #InsufficientAllowance : { allowance : Nat } };

  public type ApproveError = Common or {
    #AllowanceChanged : { current_allowance : Nat };
    #Expired : { ledger_time : Nat64 };
  };

  public func now() : Nat64 { Nat64.fromNat(Int.abs(Time.now())) };

  public func metadata(token : Token) : [(Text, Value)] {
    [
      ("icrc1:name", #Text(token.name)),
      ("icrc1:symbol", #Text(token.symbol)),
      ("icrc1:decimals", #Nat(Nat8.toNat(token.decimals))),
      ("icrc1:fee", #Nat(token.terms.fee)),
    ];
  };

  public func standards() : [{ name : Text; url : Text }] {
    [
      { name = "ICRC-1"; url = "https://github.com/dfinity/ICRC-1/tree/main/standards/ICRC-1" },
      { name = "ICRC-2"; url = "https://github.com/dfinity/ICRC-1/tree/main/standards/ICRC-2" },
    ];
  };

  // --- What the methods do ----------------------------------------------------------------------------

  public func transfer(book : Book.State, token : Token, caller : Principal, args : TransferArgs) : {
    #Ok : Nat;
    #Err : TransferError;
  } {
    let from = { owner = caller; subaccount = args.from_subaccount };
    switch (move(book, token, from, args.to, null, args.amount, args.fee, args.memo, args.created_at_time, to_candid (caller, "transfer", args))) {
      case (#Ok index) #Ok(index);
      case (#Err(#InsufficientAllowance _)) Runtime.unreachable();
      case (#Err(#InsufficientFunds e)) #Err(#InsufficientFunds e);
      case (#Err(#BadFee e)) #Err(#BadFee e);
      case (#Err(#BadBurn e)) #Err(#BadBurn e);
      case (#Err(#GenericError e)) #Err(#GenericError e);
      case (#Err(#TooOld)) #Err(#TooOld);
      case (#Err(#CreatedInFuture e)) #Err(#CreatedInFuture e);
      case (#Err(#Duplicate e)) #Err(#Duplicate e);
      case (#Err(#TemporarilyUnavailable)) #Err(#TemporarilyUnavailable);
    };
  };

  public func transferFrom(book : Book.State, token : Token, caller : Principal, args : TransferFromArgs) : {
    #Ok : Nat;
    #Err : TransferFromError;
  } {
    let spender = Book.place({ owner = caller; subaccount = args.spender_subaccount }).id;
    move(book, token, args.from, args.to, ?spender, args.amount, args.fee, args.memo, args.created_at_time, to_candid (caller, "transfer_from", args));
  };

  func move(
    book : Book.State,
    token : Token,
    from : Book.Account,
    to : Book.Account,
    spender : ?Blob,
    amount : Nat,
    fee : ?Nat,
    memo : ?Blob,
    created : ?Nat64,
    transaction : Blob,
  ) : { #Ok : Nat; #Err : TransferFromError } {
    let source = Book.place(from);
    let target = Book.place(to);
    let about = { memo; number = 0 : Nat64; created; time = now() };
    let minting = switch (token.minting) { case (?account) ?Book.place(account).id; case null null };
    if (?source.id == minting) return #Err(#GenericError { error_code = 1; message = "the minting account holds nothing" });
    let burns = ?target.id == minting;
    let due = if burns 0 else token.terms.fee;
    switch fee {
      case (?offered) if (offered != due) return #Err(#BadFee { expected_fee = due });
      case null {};
    };
    switch (Book.objection(book, transaction, created, about.time)) {
      case (?objection) return #Err(objection);
      case null {};
    };
    let done = if burns {
      if (amount < token.terms.fee) return #Err(#BadBurn { min_burn_amount = token.terms.fee });
      if (spender != null) return #Err(#GenericError { error_code = 2; message = "only its owner may burn what an account holds" });
      Book.burn(book, token.terms, source, amount, 0, about);
    } else Book.transfer(book, token.terms, source, target.id, amount, spender, about);
    switch done {
      case (#Ok index) {
        Book.remember(book, transaction, created, index, about.time);
        #Ok(index);
      };
      case (#Err e) #Err(e);
    };
  };

  public func approve(book : Book.State, token : Token, caller : Principal, args : ApproveArgs) : {
    #Ok : Nat;
    #Err : ApproveError;
  } {
    let fee = token.terms.fee;
    switch (args.fee) {
      case (?offered) if (offered != fee) return #Err(#BadFee { expected_fee = fee });
      case null {};
    };
    let about = { memo = args.memo; number = 0 : Nat64; created = args.created_at_time; time = now() };
    let from = Book.place({ owner = caller; subaccount = args.from_subaccount });
    let spender = Book.place(args.spender).id;
    if (spender == from.id) return #Err(#GenericError { error_code = 3; message = "an account needs no allowance of its own" });
    let transaction = to_candid (caller, "approve", args);
    switch (Book.objection(book, transaction, args.created_at_time, about.time)) {
      case (?objection) return #Err(objection);
      case null {};
    };
    let wanted = { spender; amount = args.amount; expected = args.expected_allowance; expires = args.expires_at };
    switch (Book.approve(book, token.terms, from, wanted, about)) {
      case (#Ok index) {
        Book.remember(book, transaction, args.created_at_time, index, about.time);
        #Ok(index);
      };
      case (#Err e) #Err(e);
    };
  };
};
