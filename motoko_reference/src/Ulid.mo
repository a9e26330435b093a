/// Identifiers by the ULID specification: 48 bits of Unix time in milliseconds, 80 random bits,
/// monotonic within a millisecond, read as one big-endian integer.
///
/// Uniqueness is what counts here, not secrecy: a peer is told apart by its principal, never by
/// knowing an id. So the bits come from a generator that the subnet's randomness has seeded.

import Blob "mo:core/Blob";
import Nat64 "mo:core/Nat64";
import Nat8 "mo:core/Nat8";

module {
  /// Kept across upgrades: the last id must not come again, even if the clock stood still.
  public type State = { var last : Nat; var chance : Nat64; var seeded : Bool };

  let two80 : Nat = 0x1_0000_0000_0000_0000_0000;

  public func empty() : State { { var last = 0; var chance = 0; var seeded = false } };

  /// Stirs in randomness, such as the 32 bytes of the management canister's `raw_rand`.
  public func seed(state : State, entropy : Blob) {
    for (byte in entropy.values()) {
      state.chance := (state.chance <<> 8) ^ Nat64.fromNat(Nat8.toNat(byte));
      ignore draw(state);
    };
    state.seeded := true;
  };

  /// 64 pseudo-random bits: SplitMix64.
  public func draw(state : State) : Nat64 {
    state.chance +%= 0x9E37_79B9_7F4A_7C15;
    var z = state.chance;
    z := (z ^ (z >> 30)) *% 0xBF58_476D_1CE4_E5B9;
    z := (z ^ (z >> 27)) *% 0x94D0_49BB_1331_11EB;
    z ^ (z >> 31);
  };

  /// A number from 0 to `limit`, both included.
  public func below(state : State, limit : Nat64) : Nat64 {
    if (limit == 0) 0 else draw(state) % (limit + 1);
  };

  /// The next id. `now` is in nanoseconds since 1970.
  public func mint(state : State, now : Nat64) : Nat {
    let milliseconds = Nat64.toNat(now / 1_000_000);
    let fresh = milliseconds * two80 + (Nat64.toNat(draw(state)) * 0x1_0000 + Nat64.toNat(draw(state) & 0xFFFF));
    // Within a millisecond, and while a clock that was set back catches up, the last one plus one.
    // Where 80 bits overflow this borrows the next millisecond instead of failing.
    state.last := if (milliseconds > state.last / two80) fresh else state.last + 1;
    state.last;
  };

  /// The time in an id, in nanoseconds since 1970.
  public func time(id : Nat) : Nat { id / two80 * 1_000_000 };
};
