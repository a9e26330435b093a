/// The book of a token ledger: balances, allowances, blocks, and which transactions have been seen
/// (ICRC-1, ICRC-2). It knows accounts by their 32-byte identifiers, and neither callers nor calls.
///
/// On a development network somebody must be first to have tokens. The rule here: the default account
/// of every user (not of canisters) holds `grant` from the beginning; it is minted, and counted in the
/// supply, when that account is first drawn upon.

import Blob "mo:core/Blob";
import List "mo:core/List";
import Map "mo:core/Map";
import Nat64 "mo:core/Nat64";
import Order "mo:core/Order";
import Principal "mo:core/Principal";
import Queue "mo:core/Queue";
import Runtime "mo:core/Runtime";
import Set "mo:core/Set";

module {
  public type Account = { owner : Principal; subaccount : ?Blob };

  /// An account's identifier, and whether it is one that has the grant.
  public type Place = { id : Blob; user : Bool };

  public type Operation = {
    #mint : { to : Blob; amount : Nat };
    #burn : { from : Blob; amount : Nat };
    #transfer : { from : Blob; to : Blob; amount : Nat; fee : Nat; spender : ?Blob };
    #approve : { from : Blob; spender : Blob; amount : Nat; fee : Nat; expires : ?Nat64 };
  };

  public type Block = { operation : Operation; memo : ?Blob; number : Nat64; created : ?Nat64; time : Nat64 };

  public type Allowance = { allowance : Nat; expires_at : ?Nat64 };

  public type State = {
    balances : Map.Map<Blob, Nat>;
    opened : Set.Set<Blob>; // accounts whose grant has been minted
    allowances : Map.Map<(Blob, Blob), Allowance>;
    blocks : List.List<Block>;
    seen : Map.Map<Blob, Nat>; // transaction -> its block
    ages : Queue.Queue<(Nat64, Blob)>;
    var supply : Nat;
  };

  public type Terms = { fee : Nat; grant : Nat };

  public type TimeError = {
    #TooOld;
    #CreatedInFuture : { ledger_time : Nat64 };
    #Duplicate : { duplicate_of : Nat };
  };

  /// How long a transaction that tells its time is remembered, and how far clocks may differ.
  let window : Nat64 = 86_400_000_000_000;
  let drift : Nat64 = 60_000_000_000;

  public func empty() : State {
    {
      balances = Map.empty();
      opened = Set.empty();
      allowances = Map.empty();
      blocks = List.empty();
      seen = Map.empty();
      ages = Queue.empty();
      var supply = 0;
    };
  };

  let noSubaccount : Blob = "\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00";

  public func place({ owner; subaccount } : Account) : Place {
    let sub = switch subaccount { case (?given) given; case null noSubaccount };
    if (sub.size() != 32) Runtime.trap("a subaccount has 32 bytes");
    let user = Principal.isSelfAuthenticating(owner) or Principal.isAnonymous(owner);
    { id = Principal.toLedgerAccount(owner, ?sub); user = user and sub == noSubaccount };
  };

  public func recorded(s : State, id : Blob) : Nat {
    switch (Map.get(s.balances, Blob.compare, id)) { case (?found) found; case null 0 };
  };

  public func balance(s : State, terms : Terms, account : Place) : Nat {
    let waiting = account.user and not Set.contains(s.opened, Blob.compare, account.id);
    recorded(s, account.id) + (if waiting terms.grant else 0);
  };

  func add(s : State, id : Blob, amount : Nat) {
    Map.add(s.balances, Blob.compare, id, recorded(s, id) + amount);
  };

  /// Write a block; its index.
  func write(s : State, block : Block) : Nat {
    List.add(s.blocks, block);
    List.size(s.blocks) - 1 : Nat;
  };

  public type About = { memo : ?Blob; number : Nat64; created : ?Nat64; time : Nat64 };

  func open(s : State, terms : Terms, account : Place, time : Nat64) {
    if (not account.user or Set.contains(s.opened, Blob.compare, account.id)) return;
    Set.add(s.opened, Blob.compare, account.id);
    if (terms.grant > 0) ignore mint(s, account.id, terms.grant, { memo = null; number = 0; created = null; time });
  };

  public func mint(s : State, to : Blob, amount : Nat, about : About) : Nat {
    add(s, to, amount);
    s.supply += amount;
    write(s, { about with operation = #mint { to; amount } });
  };

  /// Take tokens out of the world; `fee` goes with them.
  public func burn(s : State, terms : Terms, from : Place, amount : Nat, fee : Nat, about : About) : {
    #Ok : Nat;
    #Err : { #InsufficientFunds : { balance : Nat } };
  } {
    let has = balance(s, terms, from);
    if (has < amount + fee) return #Err(#InsufficientFunds { balance = has });
    open(s, terms, from, about.time);
    Map.add(s.balances, Blob.compare, from.id, has - amount - fee : Nat);
    s.supply -= amount + fee;
    #Ok(write(s, { about with operation = #burn { from = from.id; amount } }));
  };

  public func transfer(s : State, terms : Terms, from : Place, to : Blob, amount : Nat, spender : ?Blob, about : About) : {
    #Ok : Nat;
    #Err : { #InsufficientFunds : { balance : Nat }; #InsufficientAllowance : { allowance : Nat } };
  } {
    let fee = terms.fee;
    switch spender {
      case (?who) if (who != from.id) {
        let { allowance = left; expires_at } = allowance(s, from.id, who, about.time);
        if (left < amount + fee) return #Err(#InsufficientAllowance { allowance = left });
        let has = balance(s, terms, from);
        if (has < amount + fee) return #Err(#InsufficientFunds { balance = has });
        Map.add(s.allowances, comparePairs, (from.id, who), { allowance = left - amount - fee : Nat; expires_at });
      };
      case null {};
    };
    let has = balance(s, terms, from);
    if (has < amount + fee) return #Err(#InsufficientFunds { balance = has });
    open(s, terms, from, about.time);
    Map.add(s.balances, Blob.compare, from.id, has - amount - fee : Nat);
    add(s, to, amount);
    s.supply -= fee;
    #Ok(write(s, { about with operation = #transfer { from = from.id; to; amount; fee; spender } }));
  };

  func comparePairs(a : (Blob, Blob), b : (Blob, Blob)) : Order.Order {
    switch (Blob.compare(a.0, b.0)) { case (#equal) Blob.compare(a.1, b.1); case other other };
  };

  let none : Allowance = { allowance = 0; expires_at = null };

  public func allowance(s : State, from : Blob, spender : Blob, now : Nat64) : Allowance {
    switch (Map.get(s.allowances, comparePairs, (from, spender))) {
      case (?found) {
        let live = switch (found.expires_at) { case (?at) at > now; case null true };
        if live found else none;
      };
      case null none;
    };
  };

  public type Approval = { spender : Blob; amount : Nat; expected : ?Nat; expires : ?Nat64 };

  public func approve(s : State, terms : Terms, from : Place, wanted : Approval, about : About) : {
    #Ok : Nat;
    #Err : {
      #InsufficientFunds : { balance : Nat };
      #AllowanceChanged : { current_allowance : Nat };
      #Expired : { ledger_time : Nat64 };
    };
  } {
    let current = allowance(s, from.id, wanted.spender, about.time).allowance;
    switch (wanted.expected) {
      case (?expected) if (expected != current) return #Err(#AllowanceChanged { current_allowance = current });
      case null {};
    };
    switch (wanted.expires) {
      case (?at) if (at <= about.time) return #Err(#Expired { ledger_time = about.time });
      case null {};
    };
    let has = balance(s, terms, from);
    if (has < terms.fee) return #Err(#InsufficientFunds { balance = has });
    open(s, terms, from, about.time);
    Map.add(s.balances, Blob.compare, from.id, has - terms.fee : Nat);
    s.supply -= terms.fee;
    Map.add(s.allowances, comparePairs, (from.id, wanted.spender), { allowance = wanted.amount; expires_at = wanted.expires });
    let { spender; amount; expires } = wanted;
    #Ok(write(s, { about with operation = #approve { from = from.id; spender; amount; fee = terms.fee; expires } }));
  };

  // --- Transactions that tell their time are executed once ---------------------------------------------

  /// Why this transaction is not to be executed, or null. It is known by its caller and argument.
  public func objection(s : State, transaction : Blob, created : ?Nat64, now : Nat64) : ?TimeError {
    let ?at = created else return null;
    if (at + window + drift < now) return ?#TooOld;
    if (at > now + drift) return ?#CreatedInFuture { ledger_time = now };
    switch (Map.get(s.seen, Blob.compare, transaction)) {
      case (?block) ?#Duplicate { duplicate_of = block };
      case null null;
    };
  };

  public func remember(s : State, transaction : Blob, created : ?Nat64, block : Nat, now : Nat64) {
    let ?at = created else return;
    label old loop {
      let ?(age, oldest) = Queue.peekFront(s.ages) else break old;
      if (age + window + 2 * drift >= now) break old;
      ignore Queue.popFront(s.ages);
      Map.remove(s.seen, Blob.compare, oldest);
    };
    Map.add(s.seen, Blob.compare, transaction, block);
    Queue.pushBack(s.ages, (Nat64.max(at, now), transaction));
  };
};
