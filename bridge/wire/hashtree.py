"""Hash trees: what a certificate signs, and the pruned witnesses that carry it.

Rules implemented: interface specification, sections Certificate, Lookup and Encoding of
certificates. Nodes are immutable and know their digest from birth, so a tree that shares subtrees
with an older one costs only its new nodes. Nothing here knows keys, signatures or time.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, TypeAlias, final

from bridge.errors import CertificateError
from bridge.wire import _cbor

MAX_DEPTH: Final = 256
"""How many nodes may stand above one another in a tree that comes from outside."""

_EMPTY: Final = sha256(b"\x11ic-hashtree-empty").digest()
_FORK: Final = b"\x10ic-hashtree-fork"
_LABELED: Final = b"\x13ic-hashtree-labeled"
_LEAF: Final = b"\x10ic-hashtree-leaf"
_DIGEST_SIZE: Final = 32


class HashTree:
    """A node with everything below it: one of the five classes below.

    ``first`` and ``last`` are the least and the greatest visible label of the forest that this node
    is part of; ``None`` where it shows none.
    """

    __slots__ = ("_digest", "first", "last")

    _digest: bytes
    first: bytes | None
    last: bytes | None

    def digest(self) -> bytes:
        """The 32-byte digest, which pruning does not change."""
        return self._digest

    def to_cbor(self) -> bytes:
        """Encode, with the self-describing tag in front."""
        return _cbor.encode(to_raw(self))

    def __eq__(self, other: object) -> bool:
        # Equal digests alone would make a pruned tree equal to the whole.
        return isinstance(other, HashTree) and to_raw(self) == to_raw(other)

    def __hash__(self) -> int:
        return hash(self._digest)


@final
class Empty(HashTree):
    """A tree with nothing in it."""

    __slots__ = ()

    def __init__(self) -> None:
        self._digest = _EMPTY
        self.first = self.last = None

    def __repr__(self) -> str:
        return "Empty()"


@final
class Pruned(HashTree):
    """A subtree of which only the digest is shown.

    Raises:
        ValueError: If the digest is not 32 bytes long.
    """

    __slots__ = ()

    def __init__(self, digest: bytes) -> None:
        if len(digest) != _DIGEST_SIZE:
            raise ValueError(f"a digest has 32 bytes, not {len(digest)}")
        self._digest = digest
        self.first = self.last = None

    def __repr__(self) -> str:
        return f"Pruned({self._digest.hex()})"


@final
class Leaf(HashTree):
    """A value."""

    __slots__ = ("value",)

    def __init__(self, value: bytes) -> None:
        self.value = value
        self._digest = sha256(_LEAF + value).digest()
        self.first = self.last = None

    def __repr__(self) -> str:
        return f"Leaf({self.value!r})"


@final
class Labeled(HashTree):
    """A tree under a label."""

    __slots__ = ("label", "tree")

    def __init__(self, label: bytes, tree: HashTree) -> None:
        self.label = label
        self.tree = tree
        self._digest = sha256(_LABELED + label + tree._digest).digest()  # noqa: SLF001 - same class
        self.first = self.last = label

    def with_tree(self, tree: HashTree) -> "Labeled":
        """The same with another form of what is below, of the same digest."""
        made = Labeled.__new__(Labeled)
        made.label, made.tree, made._digest = self.label, tree, self._digest  # noqa: SLF001 - same class
        made.first = made.last = self.label
        return made

    def __repr__(self) -> str:
        return f"Labeled({self.label!r}, {self.tree!r})"


@final
class Fork(HashTree):
    """Two trees side by side; every label of the left one is less than every label of the right."""

    __slots__ = ("left", "right")

    def __init__(self, left: HashTree, right: HashTree) -> None:
        self.left = left
        self.right = right
        self._digest = sha256(_FORK + left._digest + right._digest).digest()  # noqa: SLF001
        self.first = right.first if left.first is None else left.first
        self.last = left.last if right.last is None else right.last

    def with_sides(self, left: HashTree, right: HashTree) -> "Fork":
        """The same with other forms of both sides, of the same digests."""
        made = Fork.__new__(Fork)
        made.left, made.right, made._digest = left, right, self._digest  # noqa: SLF001 - same class
        made.first = right.first if left.first is None else left.first
        made.last = left.last if right.last is None else right.last
        return made

    def __repr__(self) -> str:
        return f"Fork({self.left!r}, {self.right!r})"


EMPTY: Final = Empty()


# --- Building and pruning -----------------------------------------------------------------------

Buildable: TypeAlias = bytes | HashTree | Mapping[bytes, "Buildable"]
"""What :func:`build` takes: a value, a ready subtree, or a map from labels to these."""


def build(content: Buildable) -> HashTree:
    """Build the balanced tree of nested maps; a ready subtree is used as it is.

    Args:
        content: Leaves as ``bytes``, inner nodes as maps from labels; an empty map is an empty
            tree.
    """
    if isinstance(content, HashTree):
        return content
    if isinstance(content, bytes):
        return Leaf(content)
    return fork_all([Labeled(label, build(content[label])) for label in sorted(content)])


def fork_all(trees: Sequence[HashTree]) -> HashTree:
    """Join trees, given in order of their labels, into one balanced tree."""
    layer = list(trees)
    if not layer:
        return EMPTY
    while len(layer) > 1:
        joined: list[HashTree] = [
            Fork(left, right) for left, right in zip(layer[::2], layer[1::2], strict=False)
        ]
        if len(layer) % 2:
            joined.append(layer[-1])
        layer = joined
    return layer[0]


Path: TypeAlias = Sequence[bytes]


class _Wanted:
    """Paths as a trie: ``whole`` where a path ends, else what is wanted under each label."""

    __slots__ = ("below", "whole")

    def __init__(self) -> None:
        self.whole = False
        self.below: dict[bytes, _Wanted] = {}


def witness(tree: HashTree, paths: Iterable[Path]) -> HashTree:
    """Prune a tree to what the paths need.

    Everything at and below each path stays. For a path that is not in the tree, the neighbouring
    labels stay (without what is below them), so that the witness proves the absence.
    """
    wanted = _Wanted()
    for path in paths:
        node = wanted
        for label in path:
            node = node.below.setdefault(label, _Wanted())
        node.whole = True
    return _prune_level(tree, wanted)


def _prune_level(tree: HashTree, wanted: _Wanted) -> HashTree:
    if wanted.whole or isinstance(tree, (Empty, Pruned)):
        return tree
    if not wanted.below:
        return Pruned(tree.digest())
    if isinstance(tree, Leaf):
        return tree  # shows that nothing is below this point
    shown: dict[bytes, _Wanted | None] = {}
    for label, below in wanted.below.items():
        before, found, after = _neighbours(tree, label)
        if found:
            shown[label] = below
        else:
            for neighbour in (before, after):
                if neighbour is not None:
                    shown.setdefault(neighbour, None)
    return _prune_forest(tree, shown)


def _prune_forest(tree: HashTree, shown: Mapping[bytes, "_Wanted | None"]) -> HashTree:
    # A replica goes this way for every answer: what has a digest already is not hashed again.
    if isinstance(tree, Fork):
        if tree.first is None:
            return tree
        if not shown:
            return Pruned(tree.digest())
        left, right = tree.left, tree.right
        if len(shown) == 1:
            (label,) = shown
            if _reaches(left, label):
                return tree.with_sides(_prune_forest(left, shown), _prune_forest(right, {}))
            return tree.with_sides(_prune_forest(left, {}), _prune_forest(right, shown))
        low = {label: below for label, below in shown.items() if _reaches(left, label)}
        high = {label: below for label, below in shown.items() if label not in low}
        return tree.with_sides(_prune_forest(left, low), _prune_forest(right, high))
    if isinstance(tree, Labeled):
        if tree.label not in shown:
            return Pruned(tree.digest())
        below = shown[tree.label]
        subtree = tree.tree
        return tree.with_tree(
            Pruned(subtree.digest()) if below is None else _prune_level(subtree, below)
        )
    return tree  # an empty tree between labels must stay, or it would hide that nothing is there


def _reaches(tree: HashTree, label: bytes) -> bool:
    return tree.last is not None and label <= tree.last


def _neighbours(tree: HashTree, label: bytes) -> tuple[bytes | None, bool, bytes | None]:
    """The label before, whether the label is there, and the label after."""
    before: bytes | None = None
    after: bytes | None = None
    node = tree
    while isinstance(node, Fork):
        if _reaches(node.left, label):
            after = node.right.first if node.right.first is not None else after
            node = node.left
        else:
            before = node.left.last if node.left.last is not None else before
            node = node.right
    if not isinstance(node, Labeled):
        return before, False, after
    if node.label == label:
        return before, True, after
    return (node.label, False, after) if node.label < label else (before, False, node.label)


# --- Lookup -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """The path is in the tree, with this value."""

    value: bytes


@dataclass(frozen=True, slots=True)
class Absent:
    """The path is proved not to be in the tree."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """What is shown of the tree proves neither presence nor absence."""


@dataclass(frozen=True, slots=True)
class Error:
    """The path is in the tree but ends at an inner node, which has no value."""


Lookup: TypeAlias = Found | Absent | Unknown | Error

_ABSENT: Final = Absent()
_UNKNOWN: Final = Unknown()
_ERROR: Final = Error()


def _flatten(tree: HashTree) -> Iterator[HashTree]:
    stack = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, Fork):
            stack.append(node.right)
            stack.append(node.left)
        elif not isinstance(node, Empty):
            yield node


def _find_label(tree: HashTree, label: bytes) -> HashTree | Absent | Unknown:
    hidden = False  # whether something pruned stands between the previous label and here
    stack = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, Fork):
            if node.left.last is not None and node.left.last < label:
                # All labels that the left side shows come before; only what it hides last counts.
                hidden = _hides_after_last(node.left)
                stack.append(node.right)
                continue
            stack.append(node.right)
            stack.append(node.left)
        elif isinstance(node, Labeled):
            if node.label == label:
                return node.tree
            if node.label > label:
                return _UNKNOWN if hidden else _ABSENT
            hidden = False
        elif isinstance(node, Pruned):
            hidden = True
    return _UNKNOWN if hidden else _ABSENT


def _hides_after_last(tree: HashTree) -> bool:
    """Whether something pruned stands after the last label that a forest shows."""
    while isinstance(tree, Fork):
        if tree.right.last is not None:
            tree = tree.right
        elif _hides(tree.right):
            return True
        else:
            tree = tree.left
    return isinstance(tree, Pruned)


def _hides(tree: HashTree) -> bool:
    return any(isinstance(node, Pruned) for node in _flatten(tree))


def lookup_subtree(tree: HashTree, path: Path) -> HashTree | Absent | Unknown:
    """Find what stands at a path; the result may be of any class of node, pruned ones too."""
    for label in path:
        found = _find_label(tree, label)
        if not isinstance(found, HashTree):
            return found
        tree = found
    return tree


def lookup(tree: HashTree, path: Path) -> Lookup:
    """Find the value at a path, telling apart what is proved and what is not."""
    found = lookup_subtree(tree, path)
    if isinstance(found, Leaf):
        return Found(found.value)
    if isinstance(found, Empty):
        return _ABSENT
    if isinstance(found, Pruned):
        return _UNKNOWN
    return _ERROR if isinstance(found, HashTree) else found


def children(tree: HashTree) -> Iterator[tuple[bytes, HashTree]]:
    """The visible labels directly in a tree with what is below them, in increasing order."""
    for node in _flatten(tree):
        if isinstance(node, Labeled):
            yield node.label, node.tree


# --- CBOR ---------------------------------------------------------------------------------------


def to_raw(tree: HashTree) -> list[Any]:
    """The nested lists that stand for the tree in CBOR."""
    if isinstance(tree, Fork):
        return [1, to_raw(tree.left), to_raw(tree.right)]
    if isinstance(tree, Pruned):
        return [4, tree.digest()]
    if isinstance(tree, Labeled):
        return [2, tree.label, to_raw(tree.tree)]
    if isinstance(tree, Leaf):
        return [3, tree.value]
    return [0]


def from_cbor(data: bytes) -> HashTree:
    """Decode a tree and check that it is well formed.

    Raises:
        CertificateError: If it is not, or is deeper than ``MAX_DEPTH``.
    """
    return from_raw(_cbor.decode(data, "a hash tree", CertificateError), size=len(data))


def from_raw(raw: object, *, size: int) -> HashTree:
    """Make a tree of decoded CBOR; raises as :func:`from_cbor`.

    Args:
        raw: Nested lists or tuples.
        size: Length of the bytes that they were decoded from: it bounds the count of nodes, of
            which CBOR's shared references could otherwise make exponentially many.
    """
    return _Parser(size // 2).node(raw, MAX_DEPTH, in_fork=False)


class _Parser:
    """One pass over a raw tree: shape, order of labels, depth, count."""

    __slots__ = ("budget", "last")

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.last: bytes | None = None  # the greatest label seen so far in this forest

    def node(self, raw: object, depth: int, *, in_fork: bool) -> HashTree:
        # Every certificate passes here, node by node: written for speed.
        if not depth:
            raise CertificateError(f"a hash tree is deeper than {MAX_DEPTH} nodes")
        self.budget -= 1
        if self.budget < 0:
            raise CertificateError("a hash tree has more nodes than its bytes can hold")
        if not isinstance(raw, (list, tuple)) or not raw or type(raw[0]) is not int:
            raise _no_node(raw)
        kind, size = raw[0], len(raw)
        if kind == 1 and size == 3:
            left = self.node(raw[1], depth - 1, in_fork=True)
            return Fork(left, self.node(raw[2], depth - 1, in_fork=True))
        if kind == 2 and size == 3 and type(raw[1]) is bytes:
            label = raw[1]
            if self.last is not None and label <= self.last:
                raise CertificateError(
                    "labels of a hash tree do not increase: "
                    f"{label[:32]!r} after {self.last[:32]!r}"
                )
            self.last = None
            tree = self.node(raw[2], depth - 1, in_fork=False)
            self.last = label
            return Labeled(label, tree)
        if kind == 4 and size == 2 and type(raw[1]) is bytes and len(raw[1]) == _DIGEST_SIZE:
            return Pruned(raw[1])
        if kind == 3 and size == 2 and type(raw[1]) is bytes:
            if in_fork:
                raise CertificateError("a hash tree has a leaf beside other nodes")
            return Leaf(raw[1])
        if kind == 0 and size == 1:
            return EMPTY
        raise _no_node(raw)


def _no_node(raw: object) -> CertificateError:
    return CertificateError(f"a hash tree has a node that is {_cbor.kind(raw)}")
