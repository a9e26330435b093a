/// The ICP ledger of a development network: what tools expect at ryjl3-tyaaa-aaaaa-aaaba-cai.
///
/// It has no archives and certifies no blocks.

import Array "mo:core/Array";
import List "mo:core/List";
import Nat "mo:core/Nat";
import Nat64 "mo:core/Nat64";
import Runtime "mo:core/Runtime";
import Book "parts/Book";
import Icp "parts/Icp";
import Icrc "parts/Icrc";
import Token "parts/Token";

persistent actor class IcpLedger(install : { grant : Nat }) {
  let fee = 10_000;
  let book = Book.empty();
  transient let token : Token.Token = {
    name = "Internet Computer";
    symbol = "ICP";
    decimals = 8;
    terms = { fee; grant = install.grant };
    minting = ?Icp.minting();
  };
  include Icrc(book, token);

  let most : Nat64 = 2_000; // blocks of one answer

  func e8s(amount : Nat) : Icp.Tokens { { e8s = Nat64.fromNat(amount) } };

  func stamp(time : Nat64) : Icp.TimeStamp { { timestamp_nanos = time } };

  public query func name() : async { name : Text } { { name = token.name } };
  public query func symbol() : async { symbol : Text } { { symbol = token.symbol } };
  public query func decimals() : async { decimals : Nat32 } { { decimals = 8 } };
  public query func transfer_fee({}) : async { transfer_fee : Icp.Tokens } { { transfer_fee = e8s(fee) } };

  public query func account_identifier(account : Book.Account) : async Blob { Book.place(account).id };

  /// What is recorded for an identifier. Who its owner is cannot be seen from it, so what its owner holds
  /// from the beginning is not counted before it is first drawn upon.
  public query func account_balance({ account } : { account : Blob }) : async Icp.Tokens {
    e8s(Book.recorded(book, account));
  };

  type TransferArgs = {
    memo : Nat64;
    amount : Icp.Tokens;
    fee : Icp.Tokens;
    from_subaccount : ?Blob;
    to : Blob;
    created_at_time : ?Icp.TimeStamp;
  };

  type TransferError = {
    #BadFee : { expected_fee : Icp.Tokens };
    #InsufficientFunds : { balance : Icp.Tokens };
    #TxTooOld : { allowed_window_nanos : Nat64 };
    #TxCreatedInFuture;
    #TxDuplicate : { duplicate_of : Nat64 };
  };

  public shared ({ caller }) func transfer(args : TransferArgs) : async { #Ok : Nat64; #Err : TransferError } {
    if (not Icp.isIdentifier(args.to)) Runtime.trap("to is no account identifier: its checksum is wrong");
    let minting = Book.place(Icp.minting()).id;
    let burns = args.to == minting;
    let due = if burns 0 else fee;
    if (args.fee != e8s(due)) return #Err(#BadFee { expected_fee = e8s(due) });
    let amount = Nat64.toNat(args.amount.e8s);
    if (burns and amount < fee) Runtime.trap("at least " # debug_show fee # " e8s can be burned");
    let from = Book.place({ owner = caller; subaccount = args.from_subaccount });
    if (from.id == minting) Runtime.trap("the minting account holds nothing");
    let created = switch (args.created_at_time) { case (?at) ?at.timestamp_nanos; case null null };
    let about = { memo = null; number = args.memo; created; time = Token.now() };
    let transaction = to_candid (caller, "icp transfer", args);
    switch (Book.objection(book, transaction, created, about.time)) {
      case (?(#TooOld)) return #Err(#TxTooOld { allowed_window_nanos = 86_400_000_000_000 });
      case (?(#CreatedInFuture _)) return #Err(#TxCreatedInFuture);
      case (?(#Duplicate { duplicate_of })) return #Err(#TxDuplicate { duplicate_of = Nat64.fromNat(duplicate_of) });
      case null {};
    };
    let done = if burns {
      Book.burn(book, token.terms, from, amount, 0, about);
    } else Book.transfer(book, token.terms, from, args.to, amount, null, about);
    switch done {
      case (#Ok index) {
        Book.remember(book, transaction, created, index, about.time);
        #Ok(Nat64.fromNat(index));
      };
      case (#Err(#InsufficientFunds { balance })) #Err(#InsufficientFunds { balance = e8s(balance) });
      case (#Err(#InsufficientAllowance _)) Runtime.unreachable();
    };
  };

  func shown(block : Book.Block) : Icp.Block {
    let operation : Icp.Operation = switch (block.operation) {
      case (#mint { to; amount }) #Mint { to; amount = e8s(amount) };
      case (#burn { from; amount }) #Burn { from; amount = e8s(amount); spender = null };
      case (#transfer { from; to; amount; fee; spender }) #Transfer { from; to; amount = e8s(amount); fee = e8s(fee); spender };
      case (#approve { from; spender; amount; fee; expires }) #Approve {
        from;
        spender;
        allowance_e8s = amount;
        allowance = e8s(Nat.min(amount, Nat64.toNat(Nat64.maxValue)));
        fee = e8s(fee);
        expires_at = switch expires { case (?at) ?stamp(at); case null null };
        expected_allowance = null;
      };
    };
    let created_at_time = stamp(switch (block.created) { case (?at) at; case null block.time });
    {
      parent_hash = null;
      timestamp = stamp(block.time);
      transaction = { memo = block.number; icrc1_memo = block.memo; operation = ?operation; created_at_time };
    };
  };

  public query func query_blocks({ start; length } : { start : Nat64; length : Nat64 }) : async Icp.Blocks {
    let size = List.size(book.blocks);
    let from = Nat.min(Nat64.toNat(start), size);
    let to = Nat.min(from + Nat64.toNat(Nat64.min(length, most)), size);
    let blocks = List.sliceToArray(book.blocks, from, to);
    {
      chain_length = Nat64.fromNat(size);
      certificate = null;
      first_block_index = Nat64.fromNat(from);
      blocks = Array.map(blocks, shown);
      archived_blocks = [];
    };
  };
};
