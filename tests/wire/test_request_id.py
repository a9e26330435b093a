"""Request ids: the hash over the content of a request."""

import pytest

from bridge import wire
from bridge.errors import CertificateError
from bridge.wire import leb128


def test_the_specification_s_request_has_the_specification_s_id():
    content = {
        "request_type": "call",
        "sender": b"\x04",
        "ingress_expiry": 1685570400000000000,
        "canister_id": bytes.fromhex("00000000000004D2"),
        "method_name": "hello",
        "arg": b"DIDL\x00\xfd*",
    }
    expected = "1d1091364d6bb8a6c16b203ee75467d59ead468f523eb058880ae8ec80e2b101"
    assert wire.request_id(content).hex() == expected
    assert wire.request_id(dict(reversed(content.items()))).hex() == expected


def test_nested_maps_and_arrays_hash_by_their_content():
    with_list = {"paths": [[b"time"], []], "reply": {"arg": b"DIDL\0\0"}}
    with_tuple = {"reply": {"arg": b"DIDL\0\0"}, "paths": ((b"time",), ())}
    assert wire.hash_of_map(with_list) == wire.hash_of_map(with_tuple)
    assert wire.hash_of_map(with_list) != wire.hash_of_map({"paths": [[b"time"]]})


@pytest.mark.parametrize("value", [None, True, 1.5, object()])
def test_values_without_a_hash_are_refused(value):
    with pytest.raises(TypeError, match="has no hash"):
        wire.hash_of_map({"field": value})


def test_a_negative_number_is_refused():
    with pytest.raises(ValueError, match="natural"):
        wire.hash_of_map({"field": -1})


@pytest.mark.parametrize("number", [0, 1, 127, 128, 624485, 2**63, 2**64 - 1])
def test_leb128_comes_back(number):
    assert leb128.decode(leb128.encode(number)) == number


@pytest.mark.parametrize(
    "data", [b"", b"\x80", b"\x01\x01", b"\xff" * 10, b"\xff" * 9 + b"\x02", b"\x80" * 40 + b"\0"]
)
def test_what_is_not_one_leb128_number_of_64_bits_is_refused(data):
    with pytest.raises(CertificateError, match="LEB128"):
        leb128.decode(data)
