/// The ICP ledger's own types, and who mints.

import Blob "mo:core/Blob";
import Nat32 "mo:core/Nat32";
import Nat8 "mo:core/Nat8";
import Principal "mo:core/Principal";
import Array "mo:core/Array";
import Book "Book";

module {
  public type Tokens = { e8s : Nat64 };

  public type TimeStamp = { timestamp_nanos : Nat64 };

  public type Operation = {
    #Mint : { to : Blob; amount : Tokens };
    #Burn : { from : Blob; spender : ?Blob; amount : Tokens };
    #Transfer : { from : Blob; to : Blob; amount : Tokens; fee : Tokens; spender : ?Blob };
    #Approve : {
      from : Blob;
      spender : Blob;
      allowance_e8s : Int;
      allowance : Tokens;
      fee : Tokens;
      expires_at : ?TimeStamp;
      expected_allowance : ?Tokens;
    };
  };

  public type Block = {
    parent_hash : ?Blob;
    transaction : { memo : Nat64; icrc1_memo : ?Blob; operation : ?Operation; created_at_time : TimeStamp };
    timestamp : TimeStamp;
  };

  public type Range = { start : Nat64; length : Nat64 };

  public type Blocks = {
    chain_length : Nat64;
    certificate : ?Blob;
    blocks : [Block];
    first_block_index : Nat64;
    archived_blocks : [{
      start : Nat64;
      length : Nat64;
      callback : shared query Range -> async {
        #Ok : { blocks : [Block] };
        #Err : {
          #BadFirstBlockIndex : { requested_index : Nat64; first_valid_index : Nat64 };
          #Other : { error_code : Nat64; error_message : Text };
        };
      };
    }];
  };

  /// The governance canister's account, as on the main network.
  public func minting() : Book.Account { { owner = Principal.fromText("rrkah-fqaaa-aaaaa-aaaaq-cai"); subaccount = null } };

  /// Whether the first four bytes are the CRC-32 of the others.
  public func isIdentifier(id : Blob) : Bool {
    if (id.size() != 32) return false;
    let bytes = Blob.toArray(id);
    let sum = Blob.hash(Blob.fromArray(Array.sliceToArray(bytes, 4, 32)));
    var stated : Nat32 = 0;
    for (index in [0, 1, 2, 3].values()) stated := (stated << 8) | Nat32.fromNat(Nat8.toNat(bytes[index]));
    sum == stated;
  };
};
