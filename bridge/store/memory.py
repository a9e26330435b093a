"""A store for tests and for processes whose flows may die with them. Nothing here is durable."""

import bisect
import heapq
from collections.abc import Mapping

from bridge.errors import StoreConflictError
from bridge.flow import Flow, ReceiverFlow, Role, SenderFlow
from bridge.flow.usage import Usage
from bridge.principal import Principal
from bridge.store.base import Change, FlowPage, Store
from bridge.store.keys import check_cursor, key_of, receiver_key, role_prefix, sender_key


class MemoryStore(Store):
    """Flows in a dictionary, their due times in a heap."""

    def __init__(self) -> None:
        self._flows: dict[bytes, Flow] = {}
        self._notes: dict[str, bytes] = {}
        self._usage: dict[tuple[Role, Principal | None], Usage] = {}
        # Entries outlive a change of the flow's due time; such a one is dropped when it comes up.
        self._heap: list[tuple[int, bytes]] = []

    async def open(self) -> None:
        """See `StoreView.open`."""

    async def close(self) -> None:
        """See `StoreView.close`."""

    async def sender_flow(self, msg_id: int) -> SenderFlow | None:
        """See `StoreView.sender_flow`."""
        found = self._flows.get(sender_key(msg_id))
        assert found is None or isinstance(found, SenderFlow)
        return found

    async def receiver_flow(self, peer: Principal, msg_id: int) -> ReceiverFlow | None:
        """See `StoreView.receiver_flow`."""
        found = self._flows.get(receiver_key(peer, msg_id))
        assert found is None or isinstance(found, ReceiverFlow)
        return found

    async def commit(self, *changes: Change, notes: Mapping[str, bytes] | None = None) -> None:
        """See `Store.commit`."""
        for change in changes:
            held = self._flows.get(key_of(change.subject))
            if (held and held.version) != (change.before and change.before.version):
                raise StoreConflictError(
                    f"flow {change.subject.msg_id} was changed meanwhile",
                    hint="read it again and decide anew",
                )
        for change in changes:
            self._apply(change)
        self._notes.update(notes or {})

    def _apply(self, change: Change) -> None:
        record = change.subject
        key = key_of(record)
        delta = Usage.of(change.after) - Usage.of(change.before)
        for place in ((record.role, None), (record.role, record.peer)):
            total = self._usage.get(place, Usage()) + delta
            if total == Usage() and place[1] is not None:
                self._usage.pop(place, None)
            else:
                self._usage[place] = total
        if change.after is None:
            del self._flows[key]
            return
        self._flows[key] = change.after
        due = change.after.due
        if due is not None and (change.before is None or change.before.due != due):
            heapq.heappush(self._heap, (due, key))

    async def note(self, name: str) -> bytes | None:
        """See `StoreView.note`."""
        return self._notes.get(name)

    def _first_due(self) -> int | None:
        while self._heap:
            due, key = self._heap[0]
            held = self._flows.get(key)
            if held is not None and held.due == due:
                return due
            heapq.heappop(self._heap)
        return None

    async def due(self, now: int, limit: int, *, bodies: bool = True) -> list[Flow]:
        """See `StoreView.due`."""
        del bodies  # they cost nothing here
        taken: list[tuple[int, bytes]] = []
        while len(taken) < limit:
            first = self._first_due()
            if first is None or first > now:
                break
            entry = heapq.heappop(self._heap)
            if not taken or taken[-1] != entry:
                taken.append(entry)
        for entry in taken:
            heapq.heappush(self._heap, entry)
        return [self._flows[key] for _, key in taken]

    async def next_due(self) -> int | None:
        """See `StoreView.next_due`."""
        return self._first_due()

    async def flows(
        self,
        *,
        role: Role | None = None,
        state: str | None = None,
        after: bytes | None = None,
        limit: int = 100,
        bodies: bool = True,
    ) -> FlowPage:
        """See `StoreView.flows`."""
        del bodies  # they cost nothing here
        begin = check_cursor(after)
        keys = sorted(self._flows)
        prefix = role_prefix(role) if role else b""
        found: list[Flow] = []
        for key in keys[bisect.bisect_right(keys, begin) if begin else 0 :]:
            record = self._flows[key]
            if key.startswith(prefix) and (state is None or record.state == state):
                found.append(record)
                if len(found) > limit:
                    return FlowPage(tuple(found[:limit]), key_of(found[limit - 1]))
        return FlowPage(tuple(found), None)

    async def peers(self, role: Role, *, with_open: bool = False) -> list[Principal]:
        """See `StoreView.peers`."""
        return [
            peer
            for (of_role, peer), used in self._usage.items()
            if of_role is role and peer is not None and used.open >= with_open
        ]

    async def usage(self, role: Role, peer: Principal | None = None) -> Usage:
        """See `StoreView.usage`."""
        return self._usage.get((role, peer), Usage())
