"""Both major lines of the CBOR library, which decode what is inside a tag differently."""

import cbor2
import pytest

from bridge import wire
from bridge.errors import CertificateError
from bridge.principal import Principal
from bridge.wire import hashtree

NOW = 1_700_000_000_000_000_000
SELF_DESCRIBED = 55799


def tagged(value):
    return cbor2.CBORTag(SELF_DESCRIBED, value)


def test_an_envelope_with_tags_inside_is_read_like_one_without():
    # Inside a tag, version 6 of the library makes immutable maps and sequences of everything.
    request = wire.ReadStateRequest(Principal.anonymous(), NOW, ((b"time",), (b"a", b"b")))
    plain = cbor2.dumps(tagged({"content": request.content()}))
    inner = cbor2.dumps({"content": tagged({**request.content(), "paths": tagged([[b"time"]])})})
    for data in (plain, inner, cbor2.dumps(tagged(tagged({"content": request.content()})))):
        verified = wire.verify_envelope(wire.Envelope.from_cbor(data), now=NOW)
        assert verified.request.paths[0] == (b"time",)


def test_a_tree_with_tags_inside_is_read_like_one_without():
    raw = [1, [2, b"a", tagged([3, b"value"])], tagged([2, b"b", [0]])]
    tree = hashtree.from_cbor(cbor2.dumps(raw))
    assert hashtree.lookup(tree, [b"a"]) == hashtree.Found(b"value")
    data = wire.encode(
        {"tree": tagged(hashtree.to_raw(tree)), "signature": b"s", "delegation": None}
    )
    assert wire.Certificate.from_cbor(data).tree == tree


def test_a_signed_response_inside_a_tag_hashes_like_one_outside():
    response = {"status": "replied", "reply": {"arg": b"DIDL\0\0"}, "signatures": []}
    inside = cbor2.loads(cbor2.dumps({"outer": tagged(response)}))["outer"]
    assert wire.query_response_hash(
        inside, request_id=bytes(32), timestamp=NOW
    ) == wire.query_response_hash(response, request_id=bytes(32), timestamp=NOW)


@pytest.mark.parametrize("item", [b"\x00", b"\x80", b"\xa0", b"\x40", b"\xf6"])
def test_a_message_of_very_many_items_is_not_even_decoded(item):
    count = 1_000_000
    with pytest.raises(CertificateError, match="more than 250000 CBOR items"):
        wire.decode(b"\x9a" + count.to_bytes(4, "big") + item * count, "it", CertificateError)


def test_a_message_of_few_large_items_is_decoded():
    value = {"reply": bytes(range(256)) * 12_000, "more": [b"\xd8\x1d" * 40_000] * 3}
    assert wire.decode(wire.encode(value), "it", CertificateError) == value


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"\x9b" + b"\xff" * 8,
        b"\x5b\x00\x00\x00\x7f\xff\xff\xff\xff",
        b"\xc5\x82\x1b\x7f\xff\xff\xff\xff\xff\xff\xff\x03",
        b"\xd8\x23\x61(",
        b"\xc0\x61x",
        b"\x81" * 100_000,
        b"\xa1" * 1_000,
        b"\x61\xff",
    ],
)
def test_whatever_cannot_be_decoded_is_one_kind_of_error(data):
    with pytest.raises(CertificateError):
        wire.decode_map(data, "the answer", CertificateError)
