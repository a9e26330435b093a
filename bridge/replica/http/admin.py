"""The admin interface, ``/_admin/...``: faults, the message log, time, fees. Off unless asked for.

It has no authentication, so it answers only on loopback and only to requests that no web page can
send unasked.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web

from bridge.errors import PrincipalError
from bridge.principal import Principal
from bridge.replica.execution.rollback import best_engine
from bridge.replica.http.api import text_error
from bridge.replica.scheduler.faults import LogEntry
from bridge.replica.scheduler.rounds import Rounds

_DEFAULT_MAX_ARG: Final = 64 * 1024
_MAX_LINES: Final = 10_000


class BadAskError(Exception):
    """What was asked of the admin interface makes no sense; the text says why."""


class Admin:
    """The handlers.

    Args:
        rounds: The subnet at work.
    """

    def __init__(self, rounds: Rounds) -> None:
        self._rounds = rounds
        self._machine = rounds.machine

    def routes(self) -> list[web.RouteDef]:
        """The routes of the admin interface."""
        return [
            web.get("/_admin/status", self._guard(self._status)),
            web.post("/_admin/faults", self._guard(self._add_fault)),
            web.delete("/_admin/faults", self._guard(self._clear_faults)),
            web.get("/_admin/messages", self._guard(self._messages)),
            web.post("/_admin/time", self._guard(self._time)),
            web.post("/_admin/fees", self._guard(self._fees)),
        ]

    @staticmethod
    def _guard(handler: Any) -> Any:
        async def guarded(request: web.Request) -> web.StreamResponse:
            # A page in a browser on this machine must not be able to steer the replica.
            if "Origin" in request.headers:
                return text_error(403, "the admin interface is not for web pages")
            try:
                return web.json_response(await handler(request))
            except (BadAskError, PrincipalError) as error:
                return text_error(400, str(error))

        return guarded

    @staticmethod
    async def _object(request: web.Request) -> dict[str, Any]:
        try:
            value = await request.json()
        except ValueError as error:
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
                "subnet_id": str(keys.subnet_id),
                "root_subnet_id": str(keys.root_subnet_id),
                "node_id": str(keys.node_id),
                "rollback": best_engine().name,
                "fees": machine.fees,
            }

    async def _add_fault(self, request: web.Request) -> Any:
        body = await self._object(request)
        unknown = set(body) - {"from", "to", "method", "contains", "nth", "action"}
        if unknown:
            raise BadAskError(f"unknown fields: {', '.join(sorted(unknown))}")
        if body.get("action", "lose") != "lose":
            raise BadAskError(f"the action {body['action']!r} is unknown; expected 'lose'")
        nth = body.get("nth", 1)
        if type(nth) is not int or nth < 1:
            raise BadAskError("nth counts messages from 1")
        with self._machine.lock:
            fault_id = self._machine.faults.add(
                sender=_principal(body.get("from")),
                receiver=_principal(body.get("to")),
                method=_text(body.get("method")),
                contains=_hex(body.get("contains")),
                nth=nth,
            )
        return {"id": fault_id}

    async def _clear_faults(self, _request: web.Request) -> Any:
        with self._machine.lock:
            self._machine.faults.clear()
        return {}

    async def _messages(self, request: web.Request) -> Any:
        after = _number(request, "after", 0)
        most = _number(request, "max_arg", _DEFAULT_MAX_ARG)
        with self._machine.lock:
            entries = self._machine.log.after(after)[:_MAX_LINES]
        return {"messages": [_line(entry, most) for entry in entries]}

    async def _time(self, request: web.Request) -> Any:
        body = await self._object(request)
        unknown = set(body) - {"advance", "pause", "quiet"}
        if unknown:
            raise BadAskError(f"unknown fields: {', '.join(sorted(unknown))}")
        amount, pause = body.get("advance", 0), body.get("pause")
        if type(amount) is not int or amount < 0:
            raise BadAskError("advance is a number of nanoseconds, not negative")
        if pause is not None and type(pause) is not bool:
            raise BadAskError("pause is true or false")
        clock = self._machine.clock
        with self._machine.lock:
            if pause is True:
                clock.pause()
            clock.advance(amount)
            if pause is False:
                clock.resume()
        if body.get("quiet"):
            await self._until_quiet()
        else:
            self._rounds.do(lambda: None)
        with self._machine.lock:
            return {"time": clock.now(), "next_due": self._machine.next_due()}

    async def _fees(self, request: web.Request) -> Any:
        body = await self._object(request)
        on = body.get("charge")
        if set(body) != {"charge"} or type(on) is not bool:
            raise BadAskError('the body is {"charge": true} or {"charge": false}')
        with self._machine.lock:
            self._machine.charge_fees(on)
        self._rounds.do(lambda: None)
        return {"fees": on}

    async def _until_quiet(self) -> None:
        loop = asyncio.get_running_loop()
        quiet: asyncio.Future[None] = loop.create_future()

        def resolve() -> None:
            if not quiet.done():
                quiet.set_result(None)

        self._rounds.quiet(lambda: _tell(loop, resolve))
        await quiet


def _tell(loop: asyncio.AbstractEventLoop, resolve: Callable[[], None]) -> None:
    loop.call_soon_threadsafe(resolve)


def _principal(value: Any) -> Principal | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise BadAskError("a principal is given as text")
    return Principal.from_text(value)


def _text(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise BadAskError("method is a text")
    return value


def _hex(value: Any) -> bytes | None:
    if value is None:
        return None
    try:
        return bytes.fromhex(value)
    except (TypeError, ValueError) as error:
        raise BadAskError("contains is given in hexadecimal digits") from error


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
