"""Principals: the canonical text, the classes, and texts that are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import PrincipalError
from bridge.principal import Principal

# Examples of the interface specification, section Principals, and well-known ids.
KNOWN = {
    "aaaaa-aa": "",
    "2vxsx-fae": "04",
    "em77e-bvlzu-aq": "abcd01",
    "rrkah-fqaaa-aaaaa-aaaaq-cai": "00000000000000010101",
    "ryjl3-tyaaa-aaaaa-aaaba-cai": "00000000000000020101",
}


@pytest.mark.parametrize(("text", "raw"), KNOWN.items())
def test_known_principals_have_their_known_text(text: str, raw: str) -> None:
    assert str(Principal(bytes.fromhex(raw))) == text
    assert Principal.from_text(text).raw.hex() == raw


@given(st.binary(max_size=29))
def test_text_and_bytes_say_the_same(raw: bytes) -> None:
    principal = Principal(raw)
    assert Principal.from_text(str(principal)) == principal
    assert hash(Principal(raw)) == hash(principal)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "checksum"),
        ("rrkah-fqaaa-aaaaa-baaaq-cai", "checksum"),
        ("rrkah-fqaaa-aaaaa-aaaaq-caj", "not canonical"),
        ("rrkah-fqaaa-aaaaa-aaaaq-ca1", "character outside"),
        ("RRKAH-FQAAA-AAAAA-AAAAQ-CAI", "not canonical"),
        ("rrkahfqaaaaaaaaaaaaqcai", "not canonical"),
        ("rrkah-fqaaa-aaaaa-aaaaq-cäi", "character outside"),
        ("rrkah-fqaaa-aaaaa-aaaaq-cai\n", r"line break around it \(strip it"),
        (" rrkah-fqaaa-aaaaa-aaaaq-cai", r"white space .* around it \(strip it"),
        (" \n", "character outside"),
    ],
)
def test_a_wrong_text_is_refused_with_the_reason(text: str, said: str) -> None:
    with pytest.raises(PrincipalError, match=said) as caught:
        Principal.from_text(text)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None  # one traceback


def test_a_long_wrong_text_is_not_quoted_in_full() -> None:
    with pytest.raises(PrincipalError) as caught:
        Principal.from_text("a" * 1_000_000)
    assert len(str(caught.value)) < 300


def test_principals_sort_by_their_bytes_and_with_nothing_else() -> None:
    assert sorted([Principal(b"\x02"), Principal(b"\x01\x01")]) == [
        Principal(b"\x01\x01"),
        Principal(b"\x02"),
    ]
    with pytest.raises(TypeError):
        _ = Principal(b"") < 1


def test_more_than_29_bytes_are_refused() -> None:
    with pytest.raises(PrincipalError, match="at most 29 bytes, not 30"):
        Principal(bytes(30))


def test_the_classes_are_told_apart() -> None:
    agent = Principal.self_authenticating(b"a key")
    canister = Principal.from_text("rrkah-fqaaa-aaaaa-aaaaq-cai")
    anonymous = Principal.anonymous()
    management = Principal.management()
    everyone = (agent, canister, anonymous, management)
    assert [p.is_self_authenticating for p in everyone] == [True, False, False, False]
    assert [p.is_canister for p in everyone] == [False, True, False, False]
    assert [p.is_anonymous for p in everyone] == [False, False, True, False]
