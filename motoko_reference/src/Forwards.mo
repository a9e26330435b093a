/// How many entries of batches wait in the canister's queue to itself.
///
/// That queue holds 500 messages, and carries what the canister's own flows need, too: entries may take
/// less than half of it, and those of callers on no list half of that. What finds no room is as lost.
///
/// An entry that traps takes back that it began. Messages to oneself begin in the order in which they
/// were sent, so that a later one, the tick's, tells of it.

import Nat "mo:core/Nat";

module {
  let most = 200;

  public class Forwards(clock : () -> Nat64) {
    var sent = 0;
    var begun = 0; // at most `sent`
    var since : Nat64 = 0;

    /// Whether one more entry of this caller may wait.
    public func hasRoom(listed : Bool) : Bool { (sent - begun : Nat) < (if listed most else most / 2) };

    /// One was sent.
    public func left() {
      if (sent == begun) since := clock();
      sent += 1;
    };

    /// One began. It may have been sent before an upgrade, and then was not counted.
    public func began() { if (begun < sent) begun += 1 };

    public func sentSoFar() : Nat { sent };

    /// All of the first `number` have begun, or never will.
    public func begunUpTo(number : Nat) {
      begun := Nat.max(begun, number);
      since := clock();
    };

    /// Since when some of them wait, or null.
    public func waitingSince() : ?Nat64 { if (begun < sent) ?since else null };
  };
};
