"""What a bridge does with what an earlier process left in its store.

Nothing may be received while this runs: a request that came in between would be taken for one whose
handler is lost.
"""

import asyncio
import contextlib
import random
from collections.abc import Iterator
from typing import Final
from weakref import WeakSet

from bridge.errors import StoreError
from bridge.flow import ReceiverState, Restarted, Role, SenderState
from bridge.flow.trace import FlowKey
from bridge.principal import Principal
from bridge.service.engine import Engine
from bridge.service.performer import Performer, always
from bridge.store import Store

_PAGE: Final = 100
_MILLION: Final = 1_000_000
_OWNER: Final = "owner"
_IN_USE: Final[WeakSet[Store]] = WeakSet()


@contextlib.contextmanager
def alone_on(store: Store) -> Iterator[None]:
    """Keep other bridges of this process off a store; other processes the store itself keeps off.

    Two bridges on one store would each take the other's running handlers for lost ones.

    Raises:
        StoreError: If another bridge works on it.
    """
    if store in _IN_USE:
        raise StoreError(
            "another bridge works on this store", hint="end that one, or give each its own store"
        )
    _IN_USE.add(store)
    try:
        yield
    finally:
        _IN_USE.discard(store)


async def check_owner(store: Store, us: Principal) -> bool:
    """See that open flows go on under the name under which they were opened.

    Under another one, a flow that is sent again would be a new flow to its receiver.

    Returns:
        Whether what is stored was said under this name, so that peers may have more for us.

    Raises:
        StoreError: If the store holds open flows of another principal.
    """
    owner = await store.note(_OWNER)
    if owner == us.raw:
        return True
    if owner is not None:
        for role in Role:
            if (await store.usage(role)).open:
                raise StoreError(
                    f"the store holds open flows of {Principal(owner)}, and the agent is {us}",
                    hint="use that identity, or another store",
                )
    await store.commit(notes={_OWNER: us.raw})
    return owner is None


async def resume(engine: Engine, performer: Performer, draw: random.Random) -> list[Principal]:
    """Spread overdue work, repeat untaken tellings, give lost handlers up.

    Acknowledged and finished flows, by far the most, have nothing that a restart changes. Each
    state comes before those that lead to it, so that no flow is met twice.

    Returns:
        The peers that may have something for us: answers, repeats, FINs.
    """
    for role, states in ((Role.SENDER, SenderState), (Role.RECEIVER, ReceiverState)):
        for state in reversed(states):
            if state not in (SenderState.ACKNOWLEDGED, ReceiverState.FINISHED):
                await _resume_all(engine, performer, draw, role, state)
    peers = await engine.store.peers(Role.SENDER)
    return peers + await engine.store.peers(Role.RECEIVER, with_open=True)


async def _resume_all(
    engine: Engine, performer: Performer, draw: random.Random, role: Role, state: str
) -> None:
    cursor = None
    while True:
        page = await engine.store.flows(
            role=role, state=state, after=cursor, limit=_PAGE, bodies=False
        )
        await asyncio.gather(  # at once, so that they share the store's commits
            *(
                performer.decide(
                    FlowKey.of(record), always(Restarted(share=draw.randrange(_MILLION)))
                )
                for record in page.flows
            )
        )
        cursor = page.next
        if cursor is None:
            return
