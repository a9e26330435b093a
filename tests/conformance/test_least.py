"""Arguments of the least values are what a method of any interface can decode."""

import pytest

from bridge import candid
from bridge.conformance.least import least_arguments
from bridge.reference import contract_methods

CONTRACTS = ("unified", "maf", "bounty", "positional", "batch", "outbox", "settings", "watch")


@pytest.mark.parametrize("contract", [*CONTRACTS, "reference", "mailbox", "chaos"])
def test_each_method_of_each_contract_decodes_them(contract):
    for name, function in contract_methods(contract).items():
        found = candid.decode(function.args, least_arguments(function))
        assert len(found) == len(function.args), name


def test_numbers_are_zero_and_what_may_be_left_out_is():
    function = candid.parse_did(
        "service : { f : (record { a : nat; b : opt text; c : vec nat; d : blob; e : bool }, text,"
        " variant { x : record { nat8; int } }) -> () }"
    ).service.methods["f"]
    record, text, variant = candid.decode(function.args, least_arguments(function))
    assert record == {"a": 0, "b": None, "c": [], "d": b"", "e": False}
    assert text == ""
    assert (variant.label, variant.value) == ("x", (0, 0))


@pytest.mark.parametrize("type_", ["func () -> ()", "service {}", "empty"])
def test_where_a_type_has_none_there_are_none(type_):
    function = candid.parse_did(f"service : {{ f : ({type_}) -> () }}").service.methods["f"]
    assert least_arguments(function) is None
