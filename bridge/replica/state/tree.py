"""A growing hash tree: labels come and go at the cost of one path, and old versions stay whole.

``bridge.wire.hashtree`` builds a tree of a finished map. The state tree of a replica changes a
little each round, so this inserts into and removes from a tree without touching the rest of it. The
shape is a crit-bit tree: each fork splits at the first bit in which its labels differ. That needs
labels of one length, which request ids and canister ids have.
"""

from bridge.wire.hashtree import EMPTY, Empty, Fork, HashTree, Labeled


def _differing_bit(one: bytes, other: bytes) -> int:
    """The first bit that differs, counted from the most significant; -1 if none does."""
    difference = int.from_bytes(one, "big") ^ int.from_bytes(other, "big")
    return len(one) * 8 - difference.bit_length() if difference else -1


def _bit(label: bytes, bit: int) -> int:
    return label[bit >> 3] >> (7 - (bit & 7)) & 1


def insert(tree: HashTree, label: bytes, below: HashTree) -> HashTree:
    """The tree with ``below`` under ``label``, in place of what was there.

    Raises:
        ValueError: If the label has another length than those in the tree.
    """
    if isinstance(tree, Empty):
        return Labeled(label, below)
    assert tree.first is not None
    if len(tree.first) != len(label):
        raise ValueError(f"a label of {len(label)} bytes among labels of {len(tree.first)}")
    return _insert(tree, label, below)


def _insert(tree: HashTree, label: bytes, below: HashTree) -> HashTree:
    first, last = tree.first, tree.last
    assert first is not None
    assert last is not None
    if isinstance(tree, Fork):
        left_last, right_first = tree.left.last, tree.right.first
        assert left_last is not None
        assert right_first is not None
        # Within the labels that are there, comparing them finds the way; bits decide outside.
        if first <= label <= last:
            goes_left = label <= left_last or (
                label < right_first
                and _differing_bit(label, left_last) > _differing_bit(label, right_first)
            )
        else:
            split = _differing_bit(label, first)
            own = _differing_bit(first, last)
            if split < own:
                new = Labeled(label, below)
                return Fork(tree, new) if _bit(label, split) else Fork(new, tree)
            goes_left = not _bit(label, own)
        if goes_left:
            return Fork(_insert(tree.left, label, below), tree.right)
        return Fork(tree.left, _insert(tree.right, label, below))
    new = Labeled(label, below)
    if label == first:
        return new
    return Fork(new, tree) if label < first else Fork(tree, new)


def remove(tree: HashTree, label: bytes) -> HashTree:
    """The tree without ``label``; the same tree if it is not there."""
    if isinstance(tree, Labeled):
        return EMPTY if tree.label == label else tree
    if not isinstance(tree, Fork):
        return tree
    assert tree.left.last is not None
    if label <= tree.left.last:
        left = remove(tree.left, label)
        if left is tree.left:
            return tree
        return tree.right if isinstance(left, Empty) else Fork(left, tree.right)
    right = remove(tree.right, label)
    if right is tree.right:
        return tree
    return tree.left if isinstance(right, Empty) else Fork(tree.left, right)
