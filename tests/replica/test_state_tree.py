"""The growing hash tree, and what the subnet certifies of itself."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge import wire
from bridge.replica.state import requests, tree
from bridge.replica.state.messages import Reply
from bridge.replica.state.requests import RETENTION, IngressHistory, Phase, RequestRecord
from bridge.replica.state.subnet import Subnet
from bridge.wire import hashtree
from bridge.wire.hashtree import Found, Leaf

LABELS = st.lists(st.binary(min_size=3, max_size=3), max_size=40)


@given(added=LABELS, removed=LABELS, chance=st.randoms())
def test_the_tree_holds_what_was_added_and_not_removed(added, removed, chance):
    grown, expected = hashtree.EMPTY, {}
    steps = [(True, label) for label in added] + [(False, label) for label in removed]
    chance.shuffle(steps)
    for number, (adds, label) in enumerate(steps):
        if adds:
            expected[label] = str(number).encode()
            grown = tree.insert(grown, label, Leaf(expected[label]))
        else:
            expected.pop(label, None)
            grown = tree.remove(grown, label)
    assert [label for label, _ in hashtree.children(grown)] == sorted(expected)
    for label, value in expected.items():
        assert hashtree.lookup(grown, [label]) == Found(value)
    assert hashtree.from_cbor(grown.to_cbor()).digest() == grown.digest()


def test_the_shape_does_not_depend_on_the_order():
    labels = [bytes([n, 255 - n]) for n in range(50)]
    digests = set()
    for seed in range(5):
        random.Random(seed).shuffle(labels)
        grown = hashtree.EMPTY
        for label in labels:
            grown = tree.insert(grown, label, Leaf(label))
        digests.add(grown.digest())
    assert len(digests) == 1


def test_older_versions_stay_whole():
    old = tree.insert(hashtree.EMPTY, b"aa", Leaf(b"1"))
    digest = old.digest()
    tree.insert(tree.insert(old, b"ab", Leaf(b"2")), b"aa", Leaf(b"3"))
    assert old.digest() == digest
    assert hashtree.lookup(old, [b"aa"]) == Found(b"1")


def test_labels_of_two_lengths_are_refused():
    one = tree.insert(hashtree.EMPTY, b"aa", Leaf(b""))
    with pytest.raises(ValueError, match="3 bytes"):
        tree.insert(one, b"aaa", Leaf(b""))


def test_keys_follow_from_the_seed():
    assert Subnet(seed=b"a").keys.subnet_id == Subnet(seed=b"a").keys.subnet_id
    assert Subnet(seed=b"a").keys.subnet_id != Subnet(seed=b"b").keys.subnet_id
    assert Subnet().keys.subnet_id != Subnet().keys.subnet_id


@pytest.mark.covers("certificates, up to the root key")
def test_the_certificate_verifies_by_the_root_key_alone():
    subnet = Subnet(seed=b"x")
    now = 1_700_000_000 * 10**9
    certificate = subnet.certify(now)
    root = subnet.keys.root.public_key_der
    canister = subnet.new_canister_id()
    certificate.verify(root, canister, now=now, subnet_id=subnet.keys.subnet_id)
    certificate.pruned([]).verify(root, canister, now=now, sharded_ranges_only=True)
    assert certificate.pruned([]).time == now
    with pytest.raises(wire.bls.CertificateError):
        certificate.verify(Subnet(seed=b"y").keys.root.public_key_der, canister, now=now)


@pytest.mark.covers("query signatures, by a certified node key")
def test_the_node_key_is_certified():
    subnet = Subnet(seed=b"x")
    keys = subnet.keys
    certificate = subnet.certify(10**18)
    path = (b"subnet", keys.subnet_id.raw, b"node", keys.node_id.raw, b"public_key")
    assert certificate.value(path) == keys.node.public_key_der


def _record(number, expiry):
    return RequestRecord(number.to_bytes(32, "big"), expiry, b"", b"", b"")


@pytest.mark.covers("request: outcome kept five minutes, id until its expiry")
def test_answers_are_kept_five_minutes_and_ids_until_their_expiry():
    history = IngressHistory()
    early, late = _record(1, RETENTION // 2), _record(2, RETENTION * 2)
    for record in (early, late):
        history.add(record)
        history.answered(record, Reply(b"kept"), now=0)
    assert list(history.expire(RETENTION - 1)) == []
    assert set(history.expire(RETENTION)) == {(early, True), (late, False)}
    assert history.records == {late.request_id: late}
    assert (late.phase, late.payload) == (Phase.DONE, None)
    assert list(history.expire(RETENTION * 2)) == []
    assert list(history.expire(RETENTION * 2 + 1)) == [(late, True)]
    assert history.records == {}
    assert history.next_expiry() is None


def test_beyond_a_gibibyte_the_oldest_answers_are_forgotten_early(monkeypatch):
    monkeypatch.setattr(requests, "MAX_ANSWER_BYTES", 250)
    history = IngressHistory()
    records = [_record(number, RETENTION * 2) for number in range(4)]
    for now, record in enumerate(records):
        history.add(record)
        history.answered(record, Reply(bytes(100)), now)
    history = IngressHistory.of(records)
    assert list(history.expire(10)) == [(records[0], False), (records[1], False)]
    assert [record.phase for record in records] == [Phase.DONE] * 2 + [Phase.ANSWERED] * 2
    assert list(history.expire(10)) == []
    # They are remembered as long as all others.
    assert set(history.expire(RETENTION + 3)) == {(record, False) for record in records}
    assert {record.payload for record in records} == {None}
    assert set(history.expire(RETENTION * 2 + 1)) == {(record, True) for record in records}
    assert history.records == {}
