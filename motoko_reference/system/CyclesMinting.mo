/// The cycles minting canister of a development network: what tools expect at rkp4c-7iaaa-aaaaa-aaaca-cai.
///
/// It creates canisters for who attaches cycles, and turns ICP into cycles at a rate that stands still. The
/// cycles come from those that the network gave this canister. The rate is not certified.

import Array "mo:core/Array";
import Blob "mo:core/Blob";
import Cycles "mo:core/Cycles";
import Error "mo:core/Error";
import Map "mo:core/Map";
import Nat64 "mo:core/Nat64";
import Nat8 "mo:core/Nat8";
import Principal "mo:core/Principal";
import Book "parts/Book";
import Canisters "parts/Canisters";
import Icp "parts/Icp";
import Token "parts/Token";

/// `subnet`: where canisters are created. `xdr_permyriad_per_icp`: what an ICP costs, in 1/10,000 XDR; one XDR
/// is 10^12 cycles.
persistent actor class CyclesMinting(install : { subnet : Principal; xdr_permyriad_per_icp : Nat64 }) = this {
  type Outcome = {
    #processing;
    #topped : Nat;
    #created : Principal;
    #minted : { block_index : Nat; minted : Nat; balance : Nat };
  };

  type NotifyError = {
    #Refunded : { reason : Text; block_index : ?Nat64 };
    #Processing;
    #TransactionTooOld : Nat64;
    #InvalidTransaction : Text;
    #Other : { error_code : Nat64; error_message : Text };
  };

  // What the memo of a payment says that it is for.
  let memoMint : Nat64 = 0x544e494d;
  let memoTopUp : Nat64 = 0x50555054;
  let memoCreate : Nat64 = 0x41455243;

  let payments = Map.empty<Nat64, Outcome>(); // by the ICP ledger's block

  transient let subnet = install.subnet;
  transient let rate = install.xdr_permyriad_per_icp;

  public query func get_default_subnets() : async [Principal] { [subnet] };

  public query func get_subnet_types_to_subnets() : async { data : [(Text, [Principal])] } { { data = [] } };

  public query func get_principals_authorized_to_create_canisters_to_subnets() : async { data : [(Principal, [Principal])] } {
    { data = [] };
  };

  public query func get_icp_xdr_conversion_rate() : async {
    data : { timestamp_seconds : Nat64; xdr_permyriad_per_icp : Nat64 };
  } {
    { data = { timestamp_seconds = Token.now() / 1_000_000_000; xdr_permyriad_per_icp = rate } };
  };

  func objection(selection : ?Canisters.SubnetSelection) : ?Text {
    switch selection {
      case (?#Subnet { subnet = wanted }) {
        if (wanted == subnet) return null;
        ?("there is no subnet " # Principal.toText(wanted) # ": the subnet is " # Principal.toText(subnet));
      };
      case (?#Filter { subnet_type = ?wanted }) ?("there is no subnet of type " # wanted);
      case _ null;
    };
  };

  /// Creates a canister that holds the cycles attached to the call.
  public shared ({ caller }) func create_canister(arg : Canisters.CreateCanisterArg) : async Canisters.CreateCanisterResult {
    let amount = Cycles.available();
    let wanted = switch (arg.subnet_selection, arg.subnet_type) {
      case (null, ?subnet_type) ?(#Filter { subnet_type = ?subnet_type });
      case (selection, _) selection;
    };
    switch (objection wanted) {
      case (?text) return #Err(#Refunded { refund_amount = amount; create_error = text });
      case null {};
    };
    let settings = ?Canisters.controlled(arg.settings, caller);
    try {
      let { canister_id } = await (with cycles = amount) Canisters.management.create_canister({ settings; sender_canister_version = null });
      // Only what succeeded is paid for: what is not accepted goes back with the answer.
      ignore Cycles.accept<system>(amount);
      #Ok canister_id;
    } catch error {
      #Err(#Refunded { refund_amount = amount; create_error = Error.message(error) });
    };
  };

  // --- Payments in ICP ------------------------------------------------------------------------------------

  /// The subaccount into which one pays for a principal: its length, its bytes, zeros.
  func subaccount(who : Principal) : Blob {
    let bytes = Blob.toArray(Principal.toBlob(who));
    Blob.fromArray(Array.tabulate<Nat8>(32, func i { if (i == 0) Nat8.fromNat(bytes.size()) else if (i <= bytes.size()) bytes[i - 1] else 0 }));
  };

  /// How many e8s this block pays to this canister for `who`, by a transfer with this memo.
  func paid(block_index : Nat64, who : Principal, memo : Nat64) : async* { #e8s : Nat; #flaw : Text } {
    let found = await Canisters.icpLedger.query_blocks({ start = block_index; length = 1 });
    if (found.blocks.size() == 0 or found.first_block_index != block_index) return #flaw("the ledger has no block " # Nat64.toText(block_index));
    let { operation; memo = written } = found.blocks[0].transaction;
    let ?(#Transfer { to; amount }) = operation else return #flaw("the block is no transfer");
    let expected = Principal.toLedgerAccount(Principal.fromActor(this), ?subaccount(who));
    if (to != expected) return #flaw("the block pays to another account than that for " # Principal.toText(who));
    if (written != memo) return #flaw("the memo is " # Nat64.toText(written) # " and must be " # Nat64.toText(memo));
    #e8s(Nat64.toNat(amount.e8s));
  };

  /// Process a payment once: `use` turns its cycles into something.
  func process(block_index : Nat64, who : Principal, memo : Nat64, use : (cycles : Nat) -> async* Outcome) : async* {
    #Ok : Outcome;
    #Err : NotifyError;
  } {
    switch (Map.get(payments, Nat64.compare, block_index)) {
      case (?#processing) return #Err(#Processing);
      case (?outcome) return #Ok outcome;
      case null {};
    };
    Map.add(payments, Nat64.compare, block_index, #processing);
    try {
      switch (await* paid(block_index, who, memo)) {
        case (#flaw text) {
          Map.remove(payments, Nat64.compare, block_index);
          #Err(#InvalidTransaction text);
        };
        case (#e8s e8s) {
          let outcome = await* use(e8s * Nat64.toNat(rate));
          Map.add(payments, Nat64.compare, block_index, outcome);
          await* burn(who, e8s);
          #Ok outcome;
        };
      };
    } catch error {
      // Nothing was done with the payment: it may be notified again.
      switch (Map.get(payments, Nat64.compare, block_index)) {
        case (?#processing) Map.remove(payments, Nat64.compare, block_index);
        case _ {};
      };
      #Err(#Other { error_code = 0; error_message = Error.message(error) });
    };
  };

  /// Take paid ICP out of the world. If that fails, they stay where they are, and nobody can spend them.
  func burn(who : Principal, e8s : Nat) : async* () {
    try {
      ignore await Canisters.icpLedger.icrc1_transfer({
        from_subaccount = ?subaccount(who);
        to = Icp.minting();
        amount = e8s;
        fee = null;
        memo = null;
        created_at_time = null;
      });
    } catch _ {};
  };

  func another<T>() : { #Err : NotifyError } { #Err(#InvalidTransaction("the block has paid for something else")) };

  public shared ({ caller }) func notify_mint_cycles(arg : {
    block_index : Nat64;
    to_subaccount : ?Blob;
    deposit_memo : ?Blob;
  }) : async { #Ok : { block_index : Nat; minted : Nat; balance : Nat }; #Err : NotifyError } {
    let to : Book.Account = { owner = caller; subaccount = arg.to_subaccount };
    let use = func(cycles : Nat) : async* Outcome {
      let { balance; block_index } = await (with cycles) Canisters.cyclesLedger.deposit({ to; memo = arg.deposit_memo });
      #minted { balance; block_index; minted = cycles };
    };
    switch (await* process(arg.block_index, caller, memoMint, use)) {
      case (#Ok(#minted done)) #Ok done;
      case (#Ok _) another();
      case (#Err e) #Err e;
    };
  };

  public shared func notify_top_up(arg : { block_index : Nat64; canister_id : Principal }) : async {
    #Ok : Nat;
    #Err : NotifyError;
  } {
    let use = func(cycles : Nat) : async* Outcome {
      await (with cycles) Canisters.management.deposit_cycles({ canister_id = arg.canister_id });
      #topped cycles;
    };
    switch (await* process(arg.block_index, arg.canister_id, memoTopUp, use)) {
      case (#Ok(#topped cycles)) #Ok cycles;
      case (#Ok _) another();
      case (#Err e) #Err e;
    };
  };

  public shared ({ caller }) func notify_create_canister(arg : {
    block_index : Nat64;
    controller : Principal;
    subnet_type : ?Text;
    subnet_selection : ?Canisters.SubnetSelection;
    settings : ?Canisters.Settings;
  }) : async { #Ok : Principal; #Err : NotifyError } {
    if (arg.controller != caller) return #Err(#InvalidTransaction("only " # Principal.toText(arg.controller) # " may notify this"));
    let wanted = switch (arg.subnet_selection, arg.subnet_type) {
      case (null, ?subnet_type) ?(#Filter { subnet_type = ?subnet_type });
      case (selection, _) selection;
    };
    switch (objection wanted) {
      case (?text) return #Err(#InvalidTransaction text);
      case null {};
    };
    let settings = ?Canisters.controlled(arg.settings, arg.controller);
    let use = func(cycles : Nat) : async* Outcome {
      let { canister_id } = await (with cycles) Canisters.management.create_canister({ settings; sender_canister_version = null });
      #created canister_id;
    };
    switch (await* process(arg.block_index, arg.controller, memoCreate, use)) {
      case (#Ok(#created canister_id)) #Ok canister_id;
      case (#Ok _) another();
      case (#Err e) #Err e;
    };
  };
};
