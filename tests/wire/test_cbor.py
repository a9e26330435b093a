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


P = (1 << 61) - 1  # Python's hashes of numbers are remainders by this


def colliding_number(number):
    raw = (number * P).to_bytes(12, "big")
    return b"\xc2\x4c" + raw


def colliding_pair(number):
    return b"\x82\x1b" + number.to_bytes(8, "big") + b"\x1b" + (number ^ P).to_bytes(8, "big")


@pytest.mark.parametrize("key", [colliding_number, colliding_pair])
def test_keys_that_could_be_made_to_collide_are_not_even_decoded(key):
    # A hundred thousand of these would keep a dictionary busy for a minute.
    count = 100_000
    entries = b"".join(key(number) + b"\x00" for number in range(1, count + 1))
    for data in (b"\xba" + count.to_bytes(4, "big") + entries, b"\xbf" + entries + b"\xff"):
        for whole in (data, b"\x81" + data, b"\xa1\x61a" + data, b"\x82\x9f\xff" + data):
            with pytest.raises(CertificateError, match=r"CBOR tag 2|keys are not texts"):
                wire.decode(whole, "it", CertificateError)


@pytest.mark.parametrize(
    "start", [b"\x81\xff", b"\xa1\x61a\xff", b"\x81\x81\xff", b"\x9f\x81\xff\xff"]
)
def test_a_break_out_of_place_opens_no_way_around(start):
    data = start + b"\xb9\x13\x88" + b"".join(colliding_number(n) + b"\0" for n in range(5_000))
    with pytest.raises(CertificateError, match="a break ends what has a length"):
        wire.decode(data, "it", CertificateError)


def test_long_messages_in_every_form_of_their_encoding_are_decoded():
    value = {"paths": [[b"a" * 3000, b""], []], "n": 2**64 - 1, "m": {"a": {}, "b": [None, True]}}
    plain = cbor2.dumps(tagged({"content": value, "x": bytes(3000)}))
    # Maps, arrays and strings without a length in front.
    open_ended = (
        b"\xbf\x67content\xbf\x65paths\x9f\x82"
        + (b"\x5f" + b"\x59\x05\xdc" + b"a" * 1500 + b"\x59\x05\xdc" + b"a" * 1500 + b"\xff")
        + b"\x40\x9f\xff\xff\x61n\x1b" + b"\xff" * 8
        + b"\x7f\x61m\xff" + b"\xa2\x61a\xbf\xff\x61b\x82\xf6\xf5\xff"
        + b"\x61x" + cbor2.dumps(bytes(3000)) + b"\xff"
    )  # fmt: skip
    for data in (plain, open_ended):
        assert wire.decode(data, "it", CertificateError) == {"content": value, "x": bytes(3000)}


@pytest.mark.parametrize("nest", [b"\x81", b"\xa1\x61a", b"\x9f", b"\xbf\x61a", b"\xd9\xd9\xf7"])
@pytest.mark.parametrize("depth", [1_000, 30_000, 200_000])
def test_a_message_nested_very_deep_is_not_decoded(nest, depth):
    with pytest.raises(CertificateError):
        wire.decode(nest * depth + b"\x00", "it", CertificateError)


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
