"""The admin interface, ``/_admin/...``: faults, messages, queues, time, fees. Off unless asked for.

It has no authentication, so it answers only on loopback and only to requests that no web page can
send unasked.
"""

import asyncio
import functools
import json
import re
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from aiohttp import web

from bridge.errors import PrincipalError
from bridge.principal import Principal
from bridge.replica.execution.failures import InvalidModuleError
from bridge.replica.execution.rollback import best_engine
from bridge.replica.http import asked, views
from bridge.replica.http.api import text_error
from bridge.replica.http.asked import BadAskError
from bridge.replica.http.ingress import Teller
from bridge.replica.scheduler.message_log import LogEntry
from bridge.replica.scheduler.rounds import Rounds
from bridge.replica.scheduler.subnet_snapshot import SubnetSnapshot

_DEFAULT_MAX_ARG: Final = 64 * 1024
_MAX_LINES: Final = 10_000
_MAX_SHOWN: Final = 1000
_LOOPBACK: Final = frozenset({"", "127.0.0.1", "localhost"})
_T = TypeVar("_T")
_END_OF_TIME: Final = 2**63
_TIME: Final = frozenset({"advance", "pause", "quiet"})


class Admin:
    """The handlers.

    Args:
        rounds: The subnet at work.
    """

    def __init__(self, rounds: Rounds) -> None:
        self._rounds = rounds
        self._teller = Teller()
        self._machine = rounds.machine
        self._snapshots: dict[str, SubnetSnapshot] = {}
        self._snapshots_taken = 0

    def routes(self) -> list[web.RouteDef]:
        """The routes of the admin interface."""
        return [
            web.get("/_admin/status", self._guard(self._status)),
            web.post("/_admin/faults", self._guard(self._add_fault)),
            web.delete("/_admin/faults", self._guard(self._clear_faults)),
            web.post("/_admin/chances", self._guard(self._set_chances)),
            web.delete("/_admin/chances", self._guard(self._clear_chances)),
            web.get("/_admin/queues", self._guard(self._queues)),
            web.get("/_admin/call_contexts", self._guard(self._call_contexts)),
            web.get("/_admin/messages", self._guard(self._messages)),
            web.post("/_admin/time", self._guard(self._time)),
            web.post("/_admin/fees", self._guard(self._fees)),
            web.get("/_admin/canister_log/{id}", self._guard(self._canister_log)),
            web.post("/_admin/snapshot", self._guard(self._take_snapshot)),
            web.post("/_admin/restore", self._guard(self._restore)),
            web.delete("/_admin/snapshot/{id}", self._guard(self._forget_snapshot)),
        ]

    @staticmethod
    def _guard(handler: Any) -> Any:
        async def guarded(request: web.Request) -> web.StreamResponse:
            # A page in a browser on this machine must not be able to steer the replica: not one of
            # another site, nor one that a canister serves, nor one under a name that leads here.
            fetched = request.headers.get("Sec-Fetch-Site", "none")
            host = re.sub(r":\d*$", "", request.headers.get("Host", "")).lower()
            if "Origin" in request.headers or fetched != "none" or host not in _LOOPBACK:
                return text_error(403, "the admin interface is not for web pages")
            try:
                return web.json_response(await handler(request))
            except (BadAskError, PrincipalError, InvalidModuleError) as error:
                return text_error(400, str(error))

        return guarded

    @staticmethod
    async def _object(request: web.Request) -> dict[str, Any]:
        try:
            value = json.loads(await request.read())
        except (ValueError, RecursionError) as error:
            raise BadAskError(f"the body is not JSON: {error}") from error
        if not isinstance(value, dict):
            raise BadAskError("the body is not a JSON object")
        return value

    async def _status(self, _request: web.Request) -> Any:
        machine = self._machine
        keys = machine.subnet.keys
        with machine.lock:
            return {
                "time": machine.clock.now(),
                "ahead": machine.clock.ahead,
                "paused": machine.clock.paused,
                "rounds": self._rounds.rounds,
                "canisters": len(machine.subnet.canisters),
                "requests": len(machine.subnet.history.records),
                "pending_faults": machine.faults.pending(),
                "chances": machine.faults.chances is not None,
                "faults": dict(machine.faults.struck),
                "held": len(machine.held),
                "subnet_id": str(keys.subnet_id),
                "root_subnet_id": str(keys.root_subnet_id),
                "node_id": str(keys.node_id),
                "rollback": best_engine().name,
                "fees": machine.fees,
                "snapshots": list(self._snapshots),
            }

    async def _add_fault(self, request: web.Request) -> Any:
        filter_, nth, strike = asked.fault(await self._object(request))
        with self._machine.lock:
            fault_id = self._machine.faults.add(filter_, nth, strike)
        return {"id": fault_id}

    async def _clear_faults(self, _request: web.Request) -> Any:
        with self._machine.lock:
            self._machine.faults.clear()
        return {}

    async def _set_chances(self, request: web.Request) -> Any:
        chances = asked.chances(await self._object(request))
        with self._machine.lock:
            self._machine.faults.chances = chances
        return {}

    async def _clear_chances(self, _request: web.Request) -> Any:
        with self._machine.lock:
            self._machine.faults.chances = None
        return {}

    async def _queues(self, request: web.Request) -> Any:
        most = _number(request, "most", _MAX_SHOWN)
        with self._machine.lock:
            return views.queues(self._machine, most)

    async def _call_contexts(self, request: web.Request) -> Any:
        most = _number(request, "most", _MAX_SHOWN)
        with self._machine.lock:
            return {"call_contexts": views.call_contexts(self._machine, most)}

    async def _messages(self, request: web.Request) -> Any:
        after = _number(request, "after", 0)
        most = _number(request, "max_arg", _DEFAULT_MAX_ARG)
        with self._machine.lock:
            entries = self._machine.log.after(after)[:_MAX_LINES]
        return {"messages": [_line(entry, most) for entry in entries]}

    async def _time(self, request: web.Request) -> Any:
        body = await self._object(request)
        asked.known(body, _TIME)
        amount = asked.number(body, "advance", 0)
        pause, quiet = body.get("pause"), body.get("quiet", False)
        if (pause is not None and type(pause) is not bool) or type(quiet) is not bool:
            raise BadAskError("pause and quiet are true or false")
        clock = self._machine.clock
        with self._machine.lock:
            if clock.now() + amount >= _END_OF_TIME:
                raise BadAskError("time cannot be moved beyond the year 2262")
            if pause is True:
                clock.pause()
            clock.advance(amount)
            if pause is False:
                clock.resume()
        await self._until(self._rounds.quiet if quiet else self._rounds.when_saved)
        with self._machine.lock:
            return {"time": clock.now(), "next_due": self._machine.next_due()}

    async def _fees(self, request: web.Request) -> Any:
        body = await self._object(request)
        on = body.get("charge")
        if set(body) != {"charge"} or type(on) is not bool:
            raise BadAskError('the body is {"charge": true} or {"charge": false}')
        with self._machine.lock:
            self._machine.charge_fees(on)
        await self._until(self._rounds.when_saved)
        return {"fees": on}

    async def _canister_log(self, request: web.Request) -> Any:
        name = Principal.from_text(request.match_info["id"])
        first = _number(request, "from", 0)
        with self._machine.lock:
            canister = self._machine.subnet.canisters.get(name)
            if canister is None:
                raise BadAskError(f"there is no canister {name}")
            records = [
                {"index": line.index, "time": line.timestamp, "content": line.content.hex()}
                for line in canister.log
                if line.index >= first
            ]
        return {"records": records}

    async def _take_snapshot(self, _request: web.Request) -> Any:
        snapshot = await self._told(self._rounds.snapshot)
        self._snapshots_taken += 1
        name = f"snapshot-{self._snapshots_taken}"
        self._snapshots[name] = snapshot
        return {"id": name, "time": snapshot.taken_at}

    async def _restore(self, request: web.Request) -> Any:
        body = await self._object(request)
        asked.known(body, frozenset({"id"}))
        snapshot = self._snapshot_named(body.get("id"))
        await self._told(functools.partial(self._rounds.restore, snapshot))
        return {}

    async def _forget_snapshot(self, request: web.Request) -> Any:
        name = request.match_info["id"]
        self._rounds.forget(self._snapshot_named(name))
        del self._snapshots[name]
        return {}

    def _snapshot_named(self, name: Any) -> SubnetSnapshot:
        found = self._snapshots.get(name) if isinstance(name, str) else None
        if found is None:
            raise BadAskError(
                f"there is no snapshot {str(name)[:40]!r}: give the id that POST /_admin/snapshot "
                "answered"
            )
        return found

    async def _told(self, ask: Callable[[Callable[[Future[_T]], None]], None]) -> _T:
        """Ask the rounds for something that they do in their own time, and wait for it."""
        told: asyncio.Future[Future[_T]] = asyncio.get_running_loop().create_future()
        ask(lambda outcome: self._teller.tell(told, outcome))
        return (await told).result()

    async def _until(self, ask: Callable[[Callable[[], None]], None]) -> None:
        """Ask the rounds to be told of something, and wait for it."""
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ask(lambda: self._teller.tell(told, None))
        await told


def _number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name, str(default))
    if not text.isascii() or not text.isdigit():
        raise BadAskError(f"{name} is a number, not {text[:40]!r}")
    return int(text)


def _line(entry: LogEntry, max_arg: int) -> dict[str, Any]:
    return {
        "seq": entry.seq,
        "time": entry.time,
        "from": str(entry.sender) if entry.sender is not None else None,
        "to": str(entry.receiver),
        "method": entry.method,
        "arg": entry.arg[:max_arg].hex(),
        "arg_size": entry.arg_size,
        "kind": entry.kind,
        "outcome": entry.outcome,
        "text": entry.text,
    }
