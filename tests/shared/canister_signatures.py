"""Canister signatures as a canister makes them.

Rule implemented: interface specification, section Canister signatures.
"""

from hashlib import sha256

import cbor2

from bridge.wire import hashtree

# The algorithm's identifier in DER: object 1.3.6.1.4.1.56387.1.2.
ALGORITHM = bytes.fromhex("300c060a2b0601040183b8430102")


def public_key(canister, seed):
    """The DER form of the key that stands for what a canister signs under a seed."""
    body = bytes([0, len(canister.raw)]) + canister.raw + seed
    inner = ALGORITHM + bytes([0x03, len(body)]) + body
    return bytes([0x30, len(inner)]) + inner


def signed(seed, payload):
    """The tree whose digest a canister certifies to sign a payload."""
    return hashtree.build({b"sig": {sha256(seed).digest(): {sha256(payload).digest(): b""}}})


def signature(certificate, tree):
    """The signature: a certificate of the digest, as CBOR, and the tree."""
    raw = {"certificate": certificate, "tree": hashtree.to_raw(tree)}
    return b"\xd9\xd9\xf7" + cbor2.dumps(raw)
