"""The table of scenarios: each is a function, its id, and what the protocol says must hold."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from bridge.conformance.play import Play
from bridge.conformance.results import ScenarioInfo


class Ends(StrEnum):
    """Which ends a scenario is about; a relay plays the other."""

    PAIR = "pair"
    SENDER = "sender"
    RECEIVER = "receiver"


Player = Callable[[Play], Awaitable[None]]


async def comes_to_rest(play: Play) -> None:
    """The clean-up that most scenarios are judged by."""
    await play.rests()


@dataclass(frozen=True, slots=True)
class Scenario:
    """One scenario.

    Attributes:
        info: Id, group, title and requirement.
        ends: Whom it is about.
        player: Plays it and insists on what must hold.
        clean_up: Insists on how it must come to rest.
        sender: Powers that the sender needs.
        receiver: Powers that the receiver needs.
        sender_settings: With which the sender is installed, where it takes our settings.
        receiver_settings: The same for the receiver.
        dialects: In which it is played, or unsupported with ``why_not`` elsewhere; all if empty.
        only: Whether it belongs to the matrix in ``dialects`` alone.
        why_not: Why not in other dialects.
    """

    info: ScenarioInfo
    ends: Ends
    player: Player
    clean_up: Player
    sender: tuple[str, ...] = ()
    receiver: tuple[str, ...] = ()
    sender_settings: dict[str, Any] = field(default_factory=dict)
    receiver_settings: dict[str, Any] = field(default_factory=dict)
    dialects: tuple[str, ...] = ()
    only: bool = False
    why_not: str = ""


_TABLE: Final[dict[str, Scenario]] = {}


def scenario(
    id_: str,
    group: str,
    title: str,
    requirement: str,
    *,
    ends: Ends = Ends.PAIR,
    clean_up: Player = comes_to_rest,
    **given: Any,
) -> Callable[[Player], Player]:
    """Put a function into the table; the fields are those of `Scenario`."""

    def put(player: Player) -> Player:
        info = ScenarioInfo(id_, group, title, requirement)
        assert id_ not in _TABLE, id_
        _TABLE[id_] = Scenario(info, ends, player, clean_up, **given)
        return player

    return put


def table() -> dict[str, Scenario]:
    """The scenarios by id, as they were put in."""
    return _TABLE
