"""Hash trees: digests, look-ups, proofs of presence and absence, hostile shapes."""

import contextlib
import itertools
import random

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import CertificateError
from bridge.wire import hashtree
from bridge.wire.hashtree import Absent, Empty, Error, Fork, Found, Labeled, Leaf, Pruned, Unknown

ROOT = "eb5c5b2195e62d996b84c9bcc8259d19a83786a2f59e0878cec84c811f669aa0"
WHOLE = bytes.fromhex(
    "8301830183024161830183018302417882034568656c6c6f810083024179820345776f726c64"
    "83024162820344676f6f648301830241638100830241648203476d6f726e696e67"
)
PRUNED = bytes.fromhex(
    "83018301830241618301820458201b4feff9bef8131788b0c9dc6dbad6e81e524249c879e9f10f71ce3749f5a638"
    "83024179820345776f726c6483024162820458207b32ac0c6ba8ce35ac82c255fc7906f7fc130dab2a090f80fe12"
    "f9c2cae83ba6830182045820ec8324b8a1f1ac16bd2e806edba78006479c9877fed4eb464a25485465af601d8302"
    "41648203476d6f726e696e67"
)


@pytest.mark.parametrize("data", [WHOLE, PRUNED], ids=["whole", "pruned"])
def test_the_specification_s_tree_has_its_root_hash_and_its_encoding(data):
    tree = hashtree.from_cbor(data)
    assert tree.digest().hex() == ROOT
    assert tree.to_cbor() == b"\xd9\xd9\xf7" + data
    assert hashtree.from_cbor(tree.to_cbor()) == tree


def test_pruning_the_specification_s_tree_gives_its_pruned_tree():
    whole = hashtree.from_cbor(WHOLE)
    pruned = hashtree.witness(whole, [(b"a", b"y"), (b"ax",), (b"d",)])
    assert pruned == hashtree.from_cbor(PRUNED)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ([b"a", b"a"], Unknown()),
        ([b"a", b"y"], Found(b"world")),
        ([b"aa"], Absent()),
        ([b"ax"], Absent()),
        ([b"b"], Unknown()),
        ([b"bb"], Unknown()),
        ([b"d"], Found(b"morning")),
        ([b"e"], Absent()),
        ([b"a"], Error()),
        ([], Error()),
        ([b"d", b"below"], Absent()),
    ],
)
def test_lookup_in_the_specification_s_pruned_tree(path, expected):
    assert hashtree.lookup(hashtree.from_cbor(PRUNED), path) == expected


def test_lookup_before_between_and_after_what_is_pruned():
    hidden = Pruned(bytes(32))
    tree = Fork(hidden, Fork(Labeled(b"b", Leaf(b"1")), Fork(Labeled(b"d", Leaf(b"2")), hidden)))
    outcomes = {label: hashtree.lookup(tree, [label]) for label in (b"a", b"b", b"c", b"d", b"e")}
    assert outcomes == {
        b"a": Unknown(),
        b"b": Found(b"1"),
        b"c": Absent(),
        b"d": Found(b"2"),
        b"e": Unknown(),
    }


def test_an_empty_subtree_does_not_hide_anything():
    tree = Fork(Labeled(b"a", Leaf(b"")), Fork(Empty(), Labeled(b"c", Leaf(b""))))
    assert hashtree.lookup(tree, [b"b"]) == Absent()
    assert hashtree.lookup(hashtree.witness(tree, [(b"b",)]), [b"b"]) == Absent()


CONTENT = st.recursive(
    st.binary(max_size=4),
    lambda inner: st.dictionaries(st.binary(min_size=1, max_size=2), inner, max_size=5),
    max_leaves=20,
)


def value_at(content, path):
    for label in path:
        if isinstance(content, bytes) or label not in content:
            return None
        content = content[label]
    return content


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(st.binary(min_size=1, max_size=2), CONTENT, max_size=8),
    st.lists(st.lists(st.binary(min_size=1, max_size=2), max_size=3), max_size=4),
    st.randoms(use_true_random=False),
)
def test_a_witness_keeps_the_digest_and_proves_each_path_it_was_made_for(content, paths, rng):
    tree = hashtree.build(content)
    known = []

    def collect(node, path):
        known.append(path)
        if isinstance(node, dict):
            for label, below in node.items():
                collect(below, [*path, label])

    collect(content, [])
    paths = paths + rng.sample(known, min(2, len(known)))
    pruned = hashtree.from_cbor(hashtree.witness(tree, paths).to_cbor())
    assert pruned.digest() == tree.digest()
    for path in paths:
        value = value_at(content, path)
        if isinstance(value, bytes):
            assert hashtree.lookup(pruned, path) == Found(value)
        elif value:
            assert hashtree.lookup_subtree(pruned, path) == hashtree.lookup_subtree(tree, path)
        else:
            assert hashtree.lookup(pruned, path) == Absent()


def literal_lookup(tree, path):
    """The specification's lookup_path, word for word."""
    if not path:
        match tree:
            case Empty():
                return Absent()
            case Leaf():
                return Found(tree.value)
            case Pruned():
                return Unknown()
        return Error()
    label, *rest = path
    flat = flatten(tree)
    for node in flat:
        if isinstance(node, Labeled) and node.label == label:
            return literal_lookup(node.tree, rest)
    if not flat or (len(flat) == 1 and isinstance(flat[0], Leaf)):
        return Absent()
    for before, after in itertools.pairwise(flat):
        if (
            isinstance(before, Labeled)
            and isinstance(after, Labeled)
            and before.label < label < after.label
        ):
            return Absent()
    if isinstance(flat[0], Labeled) and label < flat[0].label:
        return Absent()
    if isinstance(flat[-1], Labeled) and flat[-1].label < label:
        return Absent()
    return Unknown()


def flatten(tree):
    if isinstance(tree, Fork):
        return flatten(tree.left) + flatten(tree.right)
    return [] if isinstance(tree, Empty) else [tree]


def randomly_pruned(tree, rng):
    if rng.random() < 0.25:
        return Pruned(tree.digest())
    match tree:
        case Fork():
            forked = Fork(randomly_pruned(tree.left, rng), randomly_pruned(tree.right, rng))
            return Fork(Empty(), forked) if rng.random() < 0.2 else forked
        case Labeled():
            return Labeled(tree.label, randomly_pruned(tree.tree, rng))
    return tree


def test_lookup_agrees_with_the_specification_s_words_on_any_pruned_tree():
    rng = random.Random(11)
    labels = [bytes([97 + number]) for number in range(12)]
    for _ in range(2_000):
        inner = dict.fromkeys(rng.sample(labels, rng.randint(0, 6)), b"v")
        outer = dict.fromkeys(rng.sample(labels, rng.randint(0, 8)), inner)
        tree = randomly_pruned(hashtree.build(outer), rng)
        for label in labels:
            path = [label, rng.choice(labels)][: rng.randint(1, 2)]
            assert hashtree.lookup(tree, path) == literal_lookup(tree, path)


def test_a_witness_hides_siblings():
    tree = hashtree.build({bytes([n]): bytes([n]) * 40 for n in range(100)})
    pruned = hashtree.witness(tree, [(b"\x07",)])
    assert [label for label, _ in hashtree.children(pruned)] == [b"\x07"]
    assert len(pruned.to_cbor()) < 400
    assert hashtree.witness(tree, []) == Pruned(tree.digest())


def test_building_reuses_ready_subtrees():
    ready = hashtree.build({b"module_hash": b"x"})
    tree = hashtree.build({b"canister": {b"1": ready, b"2": {b"module_hash": b"y"}}})
    plain = {b"canister": {b"1": {b"module_hash": b"x"}, b"2": {b"module_hash": b"y"}}}
    assert tree == hashtree.build(plain)
    assert hashtree.lookup_subtree(tree, [b"canister", b"1"]) is ready


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ([1, [2, b"b", [0]], [2, b"a", [0]]], "do not increase"),
        ([1, [2, b"a", [0]], [2, b"a", [0]]], "do not increase"),
        ([1, [3, b"v"], [2, b"a", [0]]], "leaf beside"),
        ([4, b"short"], "node"),
        ([2, "text", [0]], "node"),
        ([5], "node"),
        ([0, 0], "node"),
        ([], "node"),
        ({"a": 1}, "node"),
        ([3, [0]], "node"),
    ],
)
def test_malformed_trees_are_refused(raw, message):
    with pytest.raises(CertificateError, match=message):
        hashtree.from_cbor(cbor2.dumps(raw))


@pytest.mark.parametrize("depth", [260, 5_000, 80_000])
def test_deep_trees_are_refused(depth):
    data = b"\x83\x02\x41a" * depth + b"\x81\x00"
    with pytest.raises(CertificateError, match=r"deep|depth"):
        hashtree.from_cbor(data)


def test_trees_that_share_subtrees_by_reference_are_refused():
    # A few hundred bytes of such forks would stand for 2**100 nodes.
    data = b"\x83\x01\xd8\x1c\x81\x00\xd8\x1d\x00"
    with pytest.raises(CertificateError, match="shared references"):
        hashtree.from_cbor(data)
    with pytest.raises(CertificateError, match="shared references"):
        hashtree.from_cbor(data.replace(b"\xd8\x1d", b"\xdb\0\0\0\0\0\0\0\x1d"))


def test_a_value_that_looks_like_a_reference_is_no_reference():
    tree = hashtree.build({b"\xd8\x1d": b"\xd8\x19\xd9\x00\x1d" * 20})
    assert hashtree.from_cbor(tree.to_cbor()) == tree


def test_garbage_never_raises_anything_else():
    rng = random.Random(7)
    for _ in range(3_000):
        data = bytearray(PRUNED)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        with contextlib.suppress(CertificateError):
            hashtree.from_cbor(bytes(data[: rng.randint(0, len(data))]))
