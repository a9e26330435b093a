"""BLS signatures: the published vectors, hostile points, and how much memory they cost."""

import tracemalloc

import pytest

from bridge.errors import CertificateError
from bridge.wire import bls

MAINNET_ROOT_KEY = (
    "308182301d060d2b0601040182dc7c0503010201060c2b0601040182dc7c05030201036100814c0e6ec71fab583b08"
    "bd81373c255c3c371b2e84863c98a4f1e08b74235d14fb5d9c0cd546d9685f913a0c0b2cc5341583bf4b4392e467db"
    "96d65b9bb4cb717112f8472e0d5a4d14505ffd7484b01291091c5f87b98883463f98091a0baaae"
)


def test_signatures_hold_for_their_key_and_message_only():
    key, other = bls.SecretKey.generate(b"one"), bls.SecretKey.generate(b"two")
    signature = key.sign(b"message")
    assert len(signature) == 48
    assert len(key.public_key_der) == 133
    assert bls.verify(key.public_key, b"message", signature)
    assert not bls.verify(key.public_key, b"messagf", signature)
    assert not bls.verify(other.public_key, b"message", signature)
    assert not bls.verify(key.public_key, b"message", other.sign(b"message"))


def test_malformed_signatures_and_keys_do_not_verify():
    key = bls.SecretKey.generate(b"one")
    signature = key.sign(b"m")
    for bad in (b"", signature[:-1], bytes(48), b"\xff" * 48, signature + b"\0"):
        assert not bls.verify(key.public_key, b"m", bad)
    for bad in (b"", key.public_key[:-1], bytes(96), b"\xff" * 96):
        assert not bls.verify(bad, b"m", signature)


def test_the_point_at_infinity_is_neither_key_nor_proof():
    # With both at infinity the pairing equation holds for every message.
    key = b"\xc0" + bytes(95)
    assert not bls.verify(key, b"m", b"\xc0" + bytes(47))
    real = bls.SecretKey.generate(b"one")
    assert not bls.verify(real.public_key, b"m", b"\xc0" + bytes(47))


def test_der_comes_back_and_other_bytes_are_refused():
    der = bytes.fromhex(MAINNET_ROOT_KEY)
    raw = bls.public_key_from_der(der)
    assert raw == der[-96:]
    for bad in (b"", der[:-1], der + b"\0", b"\x31" + der[1:]):
        with pytest.raises(CertificateError, match="BLS12-381"):
            bls.public_key_from_der(bad)


@pytest.mark.parametrize(
    ("key", "message", "signature"),
    [
        (
            (
                "a7623a93cdb56c4d23d99c14216afaab3dfd6d4f9eb3db23d038280b6d5cb2caaee2a19dd92c9df7001dede23b"
                "f036bc0f33982dfb41e8fa9b8e96b5dc3e83d55ca4dd146c7eb2e8b6859cb5a5db815db86810b8d12cee1588b5"
                "dbf34a4dc9a5"
            ),
            b"hello".hex(),
            (
                "b89e13a212c830586eaa9ad53946cd968718ebecc27eda849d9232673dcd4f440e8b5df39bf14a88048c15e16c"
                "bcaabe"
            ),
        ),
        (
            MAINNET_ROOT_KEY[74:],
            (
                "0d69632d73746174652d726f6f74e6c01e909b4923345ce5970962bcfe3004bfd8474a21dae28f50692502f46d"
                "90"
            ),
            (
                "ace9fcdd9bc977e05d6328f889dc4e7c99114c737a494653cb27a1f55c06f4555e0f160980af5ead098acc1950"
                "10b2f7"
            ),
        ),
    ],
    ids=["published vector", "mainnet state root"],
)
def test_signatures_of_other_implementations_verify(key, message, signature):
    raw, proof = bytes.fromhex(key), bytes.fromhex(signature)
    assert bls.verify(raw, bytes.fromhex(message), proof)
    assert not bls.verify(raw, bytes.fromhex(message) + b"!", proof)


def test_a_secret_key_is_never_shown():
    key = bls.SecretKey(12345678901234567890)
    assert "12345678901234567890" not in repr(key)


@pytest.mark.parametrize("scalar", [0, -1, 1 << 255])
def test_scalars_out_of_range_are_refused(scalar):
    with pytest.raises(ValueError, match="group order"):
        bls.SecretKey(scalar)


def test_what_a_liar_sends_is_not_kept_in_memory():
    key = bls.SecretKey.generate(b"one")
    proof = key.sign(bytes(1 << 20))
    tracemalloc.start()
    try:
        for number in range(20):
            assert not bls.verify(key.public_key, b"m", bytes([number]) * (1 << 20))
            assert not bls.verify(key.public_key, bytes([number + 1]) * (1 << 20), proof)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1 << 20
