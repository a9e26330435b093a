/// The ICRC-1 and ICRC-2 methods of a ledger: include this once in the actor.

import Book "Book";
import Token "Token";

mixin (book : Book.State, token : Token.Token) {
  public query func icrc1_name() : async Text { token.name };
  public query func icrc1_symbol() : async Text { token.symbol };
  public query func icrc1_decimals() : async Nat8 { token.decimals };
  public query func icrc1_fee() : async Nat { token.terms.fee };
  public query func icrc1_metadata() : async [(Text, Token.Value)] { Token.metadata(token) };
  public query func icrc1_minting_account() : async ?Book.Account { token.minting };
  public query func icrc1_supported_standards() : async [{ name : Text; url : Text }] { Token.standards() };
  public query func icrc1_total_supply() : async Nat { book.supply };

  public query func icrc1_balance_of(account : Book.Account) : async Nat {
    Book.balance(book, token.terms, Book.place(account));
  };

  public shared ({ caller }) func icrc1_transfer(args : Token.TransferArgs) : async {
    #Ok : Nat;
    #Err : Token.TransferError;
  } {
    Token.transfer(book, token, caller, args);
  };

  public query func icrc2_allowance(args : { account : Book.Account; spender : Book.Account }) : async Book.Allowance {
    Book.allowance(book, Book.place(args.account).id, Book.place(args.spender).id, Token.now());
  };

  public shared ({ caller }) func icrc2_approve(args : Token.ApproveArgs) : async {
    #Ok : Nat;
    #Err : Token.ApproveError;
  } {
    Token.approve(book, token, caller, args);
  };

  public shared ({ caller }) func icrc2_transfer_from(args : Token.TransferFromArgs) : async {
    #Ok : Nat;
    #Err : Token.TransferFromError;
  } {
    Token.transferFrom(book, token, caller, args);
  };
};
