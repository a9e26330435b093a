/// The `compute` application (candid/compute.did): sum, largest and CRC-32 of a list of numbers.
///
/// The request is read by hand: Motoko's `from_candid` traps on bytes that are no Candid, and a
/// request that cannot be read deserves an answer rather than a trap.

import Blob "mo:core/Blob";
import Char "mo:core/Char";
import Nat32 "mo:core/Nat32";
import Nat64 "mo:core/Nat64";
import Nat8 "mo:core/Nat8";
import AsyncFlow "mo:async-flow";

module {
  type Response = { #ok : { sum : Nat; largest : ?Nat64; crc32 : Nat32 }; #err : Text };

  public func handle(request : AsyncFlow.Request) : AsyncFlow.Reply {
    let response : Response = switch (numbers(request.payload)) {
      case (?(sum, largest)) #ok { sum; largest; crc32 = AsyncFlow.hash(?request.payload) };
      case null #err "the payload is not Candid of type record { numbers : vec nat64 }";
    };
    #answer(?to_candid (response));
  };

  let magic : Blob = "DIDL";

  /// Whether these bytes begin as Candid does.
  public func isCandid(payload : Blob) : Bool {
    let bytes = payload.values();
    for (expected in magic.values()) if (bytes.next() != ?expected) return false;
    true;
  };

  func label_(text : Text) : Nat {
    var h : Nat32 = 0;
    for (c in text.chars()) h := h *% 223 +% Char.toNat32(c);
    Nat32.toNat(h);
  };

  // Opcodes of the Candid type table.
  let opRecord : Nat = 0x6c;
  let opVec : Nat = 0x6d;
  let opNat64 : Nat = 0x78;

  type Entry = { #numbers : Nat; #vec : Nat };

  /// The sum and the largest of the numbers, or null if the bytes are not of that type.
  func numbers(payload : Blob) : ?(Nat, ?Nat64) {
    let bytes = payload.values();
    func byte() : ?Nat { do ? { Nat8.toNat(bytes.next()!) } };
    func leb() : ?Nat {
      do ? {
        var value = 0;
        var factor = 1;
        var digits = 0;
        loop {
          let b = byte()!;
          value += (b % 0x80) * factor;
          factor *= 0x80;
          digits += 1;
          if (digits > 10) null!;
          if (b < 0x80) return ?value;
        };
      };
    };
    do ? {
      for (expected in magic.values()) if (byte()! != Nat8.toNat(expected)) null!;
      // The table holds the record and the vector, in either order.
      if (leb()! != 2) null!;
      let table = [entry(byte, leb)!, entry(byte, leb)!];
      if (leb()! != 1) null!;
      let top = leb()!;
      if (top > 1) null!;
      let #numbers list = table[top] else null!;
      if (list > 1) null!;
      let #vec item = table[list] else null!;
      if (item != opNat64) null!;
      var left = leb()!;
      // Eight bytes a number: a length that the payload cannot hold is refused before the loop.
      if (left * 8 > payload.size()) null!;
      var sum = 0;
      var largest : ?Nat64 = null;
      while (left > 0) {
        var n : Nat64 = 0;
        var shift : Nat64 = 0;
        while (shift < 64) {
          n |= Nat64.fromNat(byte()!) << shift;
          shift += 8;
        };
        sum += Nat64.toNat(n);
        largest := switch largest { case (?l) ?Nat64.max(l, n); case null ?n };
        left -= 1;
      };
      if (bytes.next() != null) null!;
      (sum, largest);
    };
  };

  func entry(byte : () -> ?Nat, leb : () -> ?Nat) : ?Entry {
    do ? {
      let op = byte()!;
      if (op == opRecord) {
        if (leb()! != 1) null!;
        if (leb()! != label_("numbers")) null!;
        #numbers(leb()!);
      } else if (op == opVec) { #vec(byte()!) } else null!;
    };
  };
};
