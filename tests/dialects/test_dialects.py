"""Each dialect speaks exactly its contract, and hears what Candid subtyping allows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge import candid, contracts, dialects
from bridge.errors import CandidError, UsageError
from bridge.flow import Ack, Fin, New

NAMES = ["unified", "maf", "bounty", "positional"]
ids = st.one_of(st.integers(0, 2**128 - 1), st.sampled_from([0, 2**32 - 1, 2**64, 2**128 - 1]))
hashes = st.none() | st.integers(0, 2**32 - 1)
messages = st.one_of(
    st.builds(New, ids, st.binary(max_size=40)),
    st.builds(Ack, ids, st.none() | st.binary(max_size=40), hashes),
    st.builds(Fin, ids, hashes),
)


def as_carried(name, message):
    """What of a message a dialect can carry."""
    match name, message:
        case "unified", _:
            return message
        case "maf", Ack():
            return Ack(message.msg_id, message.payload or b"")
        case "maf", Fin():
            return Fin(message.msg_id)
        case _, Ack():
            return Ack(message.msg_id, message.payload or b"", message.hash)
    return message


@pytest.mark.parametrize("name", NAMES)
@given(message=messages)
def test_a_message_comes_back_as_far_as_the_dialect_carries_it(name, message):
    dialect = dialects.get(name)
    assert dialect.message_from(*dialect.call_for(message)) == as_carried(name, message)


def load(name):
    return contracts.interface(name.removesuffix(".did"))


@pytest.mark.parametrize("name", NAMES)
def test_the_types_are_those_of_the_contract(name):
    service = candid.parse_did(contracts.interface(name)).service
    dialect = dialects.get(name)
    assert set(service.methods) == set(dialect.methods.values())
    for kind, method in dialect.methods.items():
        assert service.methods[method].args == dialect.arguments[kind]
        assert service.methods[method].modes == ("oneway",)


def test_the_batch_is_that_of_the_contract():
    service = candid.parse_did(contracts.interface("batch"), loader=load).service
    assert service.methods["asyncFlow_batch"].args == (dialects.batch.ARGUMENT,)


@given(st.lists(messages, max_size=5))
def test_a_batch_comes_back(several):
    method, arg = dialects.batch.call_for(several)
    assert method == "asyncFlow_batch"
    assert dialects.batch.messages_from(arg) == several


# --- What peers of other kinds send --------------------------------------------------------------

NAT, BLOB, NAT32 = candid.Nat, candid.Blob, candid.Nat32


def unified(case, type_):
    return dialects.get("unified").message_from(
        "asyncFlow", candid.encode([candid.Variant(type_)], [case])
    )


def test_an_old_unified_peer_without_hashes_is_heard():
    ack = {"ACK": candid.Record({"msg_id": NAT, "payload": candid.Opt(BLOB)})}
    assert unified(candid.Case("ACK", {"msg_id": 7, "payload": b"x"}), ack) == Ack(7, b"x", None)
    fin = {"FIN": candid.Record({"msg_id": NAT})}
    assert unified(candid.Case("FIN", {"msg_id": 7}), fin) == Fin(7, None)


def test_a_unified_peer_that_sends_a_plain_blob_is_heard():
    ack = {"ACK": candid.Record({"msg_id": NAT, "payload": BLOB})}
    assert unified(candid.Case("ACK", {"msg_id": 7, "payload": b""}), ack) == Ack(7, b"", None)


def test_further_fields_of_a_later_version_are_skipped():
    new = {"NEW": candid.Record({"msg_id": NAT, "payload": BLOB, "trace": candid.Text})}
    case = candid.Case("NEW", {"msg_id": 7, "payload": b"x", "trace": "t"})
    assert unified(case, new) == New(7, b"x")


def test_an_unknown_variant_is_refused():
    with pytest.raises(CandidError):
        unified(candid.Case("NAK", None), {"NAK": candid.Null})


def test_a_missing_payload_is_refused():
    with pytest.raises(CandidError):
        unified(candid.Case("NEW", {"msg_id": 7}), {"NEW": candid.Record({"msg_id": NAT})})


def test_an_opt_payload_does_not_decode_in_maf():
    type_ = candid.Variant({"ACK": candid.Record({"msg_id": NAT, "payload": candid.Opt(BLOB)})})
    arg = candid.encode([type_], [candid.Case("ACK", {"msg_id": 7, "payload": b"x"})])
    with pytest.raises(CandidError):
        dialects.get("maf").message_from("com_asyncFlow_ack", arg)


def test_a_message_in_the_method_of_another_kind_is_refused_in_maf():
    _, arg = dialects.get("maf").call_for(New(7, b"x"))
    with pytest.raises(CandidError, match="called with a NEW"):
        dialects.get("maf").message_from("com_asyncFlow_fin", arg)


def test_the_worked_examples_blob_hash_counts_as_absent():
    arg = candid.encode([NAT, candid.Opt(BLOB)], [7, b"hash"])
    assert dialects.get("positional").message_from("com_asyncFlow_finish", arg) == Fin(7, None)


def test_trailing_optional_arguments_may_be_missing():
    arg = candid.encode([NAT], [7])
    assert dialects.get("positional").message_from("com_asyncFlow_finish", arg) == Fin(7, None)


@pytest.mark.parametrize("name", NAMES)
def test_a_foreign_method_is_refused(name):
    with pytest.raises(CandidError, match="no method"):
        dialects.get(name).message_from("other", b"DIDL\0\0")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "arg", [b"", b"DIDL", b"DIDL\0\0", b"\0" * 40, b"DIDL\x01m\x7f\x01\x00\xff\xff\xff\x07"]
)
def test_what_does_not_decode_is_refused(name, arg):
    dialect = dialects.get(name)
    for method in set(dialect.methods.values()):
        with pytest.raises(CandidError):
            dialect.message_from(method, arg)


def test_an_unknown_dialect_is_refused():
    with pytest.raises(UsageError, match="unified, maf, bounty, positional"):
        dialects.get("esperanto")


# --- Telling a peer's dialect -------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_peer_with_the_contract_is_told(name):
    assert dialects.detect(contracts.interface(name)) == name


@pytest.mark.parametrize("name", NAMES)
def test_a_peer_that_declares_its_methods_without_oneway_is_told(name):
    assert dialects.detect(contracts.interface(name).replace(" oneway", "")) == name


def test_a_peer_of_two_dialects_is_spoken_to_in_unified():
    text = """type M = variant {
      NEW : record { msg_id : nat; payload : blob };
      ACK : record { msg_id : nat; payload : opt blob };
      FIN : record { msg_id : nat } };
    service : { asyncFlow : (M) -> () oneway;
      com_asyncFlow_newMessage : (nat, blob) -> ();
      com_asyncFlow_finish : (nat, opt blob) -> () }"""
    assert dialects.detect(text) == "unified"
    assert dialects.detect(text.replace("asyncFlow :", "other :")) == "positional"


def test_a_peer_without_async_flow_has_no_dialect():
    assert dialects.detect("service : { greet : (text) -> (text) query }") is None
    assert dialects.detect("type A = nat;") is None


def test_a_sender_only_peer_takes_no_flow():
    text = "service : { com_asyncFlow_ack : (nat, opt nat32, blob) -> () oneway }"
    assert dialects.detect(text) is None


def test_a_method_of_that_name_that_answers_is_something_else():
    assert (
        dialects.detect(contracts.interface("unified").replace("-> () oneway", "-> (nat)")) is None
    )


def test_the_batch_is_offered_or_not():
    text = contracts.interface("unified").replace(
        "service : {", "service : { asyncFlow_batch : (vec MessageType) -> () oneway;"
    )
    assert dialects.offers_batch(text) is True
    assert dialects.offers_batch(text.replace("vec MessageType", "vec nat")) is False
    assert dialects.offers_batch(contracts.interface("unified")) is False


def test_metadata_that_is_no_interface_is_an_error():
    with pytest.raises(CandidError):
        dialects.detect("service : {")
