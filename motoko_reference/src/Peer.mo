/// What kind of principal a peer is: that decides how it is reached.

import Blob "mo:core/Blob";
import Principal "mo:core/Principal";

module {
  public type Class = { #canister; #agent; #other };

  /// A canister (opaque class, last byte 0x01) is called, an agent (self-authenticating, last byte
  /// 0x02) polls its outbox; all others, the anonymous one among them, are refused.
  public func classify(peer : Principal) : Class {
    let bytes = Blob.toArray(Principal.toBlob(peer));
    if (bytes.size() == 0) return #other;
    switch (bytes[bytes.size() - 1]) {
      case 0x01 #canister;
      case 0x02 if (bytes.size() == 29) #agent else #other;
      case _ #other;
    };
  };
};
