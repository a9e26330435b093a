"""``python -m bridge.conformance.driver``: the Python package as one end of a conformance run.

A driver is a program that obeys on its standard streams, a JSON object a line: it is asked
``{"do": "open", ...}`` and answers ``{"ok": ...}``, ``{"refused": reason}`` or
``{"unsupported": reason}``. Any implementation that is no canister can be brought along as such a
program; docs/conformance.md lists what it is asked. Bytes are hexadecimal, ids decimal texts.
"""

import asyncio
import contextlib
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any, Final

from bridge.agent import Agent, Identity
from bridge.conformance.player import Player
from bridge.conformance.scenarios import table
from bridge.errors import BridgeError
from bridge.flow import Policy, Role
from bridge.flow.policy import Cycles, PeerPolicy
from bridge.principal import Principal
from bridge.service import Bridge
from bridge.store import SQLiteStore

_POWERS: Final = (
    *("open", "ids", "outcome", "handled", "flows", "counters", "settings", "player", "null"),
    *("upgrade", "life", "kill", "alone"),
)
_KEY: Final = "key.pem"
_APPLICATION: Final = "application.json"
_WITHOUT: Final = {
    "D5": "a batch is a method of canisters: an agent is no canister",
    "H7": "cycles are paid to canisters: an agent is no canister",
}


class _UnsupportedError(Exception):
    """What this program cannot do; the text says why."""


class Driver:
    """One end: a bridge that is begun, ended and begun again on one store.

    Commands are methods named ``do_...``; each takes what it was asked and returns what ``ok`` is.
    """

    def __init__(self) -> None:
        self._identity = Identity.generate()
        self._held = contextlib.AsyncExitStack()
        self._bridge_held = contextlib.AsyncExitStack()
        self._bridge: Bridge | None = None
        self._player = Player()
        self._folder: Path | None = None
        self._now: int | None = None
        self._place: dict[str, Any] = {}
        self._settings: dict[str, Any] = {}
        self._peers: dict[Principal, PeerPolicy] = {}
        self._accept: frozenset[Principal] | None = None
        self._dialect = "unified"
        self._step: asyncio.Task[tuple[bool, int]] | None = None

    @property
    def bridge(self) -> Bridge:
        """The running bridge."""
        if self._bridge is None:
            raise BridgeError("this end does not run", hint="start it first")
        return self._bridge

    def _clock(self) -> int:
        return time.time_ns() if self._now is None else self._now

    # --- Life -----------------------------------------------------------------------------------

    async def do_hello(self, _asked: dict[str, Any]) -> Any:
        """Who this is, and what can be asked of it."""
        return {"principal": str(self._identity.principal), "powers": list(_POWERS)}

    async def do_scenario(self, asked: dict[str, Any]) -> Any:
        """Whether a scenario can be played with it."""
        if asked["id"] not in table():
            raise _UnsupportedError(f"there is no scenario {asked['id']!r}")
        if asked["id"] in _WITHOUT:
            raise _UnsupportedError(_WITHOUT[asked["id"]])
        return None

    async def do_start(self, asked: dict[str, Any]) -> Any:
        """Begin anew, or ``again`` on the store and application that the folder holds."""
        await self.do_end({})
        self._place = asked
        self._now = asked["now"]
        self._dialect = asked["dialect"]
        self._folder = Path(asked["folder"])
        self._settings, self._peers, self._accept = {}, {}, None
        self._player = Player()
        if asked.get("again"):
            self._identity = Identity.from_pem(self._folder / _KEY)
            self._player.resume(json.loads((self._folder / _APPLICATION).read_bytes()))
        else:
            for file in self._folder.iterdir():
                file.unlink()
            self._identity.save_pem(self._folder / _KEY)
        agent = Agent(
            asked["url"],
            identity=self._identity,
            root_key=bytes.fromhex(asked["root_key"]),
            clock=self._clock,
        )
        self._agent = await self._held.enter_async_context(agent)
        await self._configure(asked)

    async def _configure(self, asked: dict[str, Any]) -> None:
        self._settings |= asked.get("settings") or {}
        for peer in asked.get("peers") or []:
            cycles = peer.get("attach_cycles")
            self._peers[Principal.from_text(peer["peer"])] = PeerPolicy(
                dialect=peer.get("dialect"),
                null_ack=peer.get("null_ack") or "response",
                ids=peer.get("ids") or "opaque",
                attach_cycles=None
                if cycles is None
                else Cycles(**{name: int(amount) for name, amount in cycles.items()}),
            )
        access = asked.get("access")
        if access is not None:
            listed = access.get("canisters")
            self._accept = (
                None if listed is None else frozenset(Principal.from_text(c) for c in listed)
            )
        await self._begin()

    def _policy(self) -> Policy:
        renamed = {
            "bytes_stored" if name == "bytes" else name: value
            for name, value in self._settings.items()
        }
        policy = dataclasses.replace(Policy(), **renamed, peers=dict(self._peers))
        return policy.validate()

    async def _begin(self) -> None:
        """Begin, or end without grace and begin again on the same store."""
        policy, role = self._policy(), self._place.get("role")
        await self.do_stop({})
        assert self._folder is not None
        store = await self._bridge_held.enter_async_context(SQLiteStore(self._folder / "flows.db"))
        self._bridge = await self._bridge_held.enter_async_context(
            Bridge(
                self._agent,
                store,
                mailbox=Principal.from_text(self._place["mailbox"]),
                policy=policy,
                handler=None if role == "sender" else self._player.handle,
                sends=role != "receiver",
                on_outcome=self._player.take_outcome,
                on_operator=self._player.take_telling,
                on_corrupt=self._player.decide,
                accept=self._accept,
                clock=self._clock,
                by_hand=self._now is not None,
                close_within=0.0,
                poll_every=0.2,
            )
        )
        self._store = store

    async def do_stop(self, _asked: dict[str, Any]) -> Any:
        """End as a crash does: nothing is waited for."""
        self._bridge = None
        await self._bridge_held.aclose()
        step, self._step = self._step, None
        if step is not None:
            step.cancel()
            await asyncio.gather(step, return_exceptions=True)
        self._player.hangs.clear()

    async def do_restart(self, _asked: dict[str, Any]) -> Any:
        """End as a crash does, and begin again on what was stored."""
        await self._begin()

    async def do_end(self, _asked: dict[str, Any]) -> Any:
        """End, and let go of the folder."""
        await self.do_stop({})
        await self._held.aclose()
        self._folder = None

    def remember(self) -> None:
        """Write down what the application knows, so that it outlives this process."""
        if self._folder is not None and self._player.changed:
            self._player.changed = False
            (self._folder / _APPLICATION).write_text(json.dumps(self._player.remembered()))

    async def do_step(self, asked: dict[str, Any]) -> Any:
        """Do all that is to be done at this time; whether there was anything, and when next.

        A handler that hangs is left under way, and with it all else, until this program is killed.
        """
        self._now = asked["now"]
        if self._bridge is None or self._step is not None:
            return {"moved": False, "due": None}
        step = asyncio.create_task(self._bridge.step())
        hangs = asyncio.create_task(self._player.hangs.wait())
        await asyncio.wait([step, hangs], return_when=asyncio.FIRST_COMPLETED)
        hangs.cancel()
        if not step.done():
            self._step = step
            return {"moved": True, "due": None}
        moved, due = await step
        return {"moved": moved, "due": due}

    async def do_configure(self, asked: dict[str, Any]) -> Any:
        """Change settings, peers or whose requests are taken; begins again."""
        await self._configure(asked)

    # --- As a sender and as a receiver ------------------------------------------------------------

    async def do_open(self, asked: dict[str, Any]) -> Any:
        """Open flows to one peer; their ids."""
        msg_id = asked.get("msg_id")
        posts = (
            self.bridge.post(
                Principal.from_text(asked["to"]),
                bytes.fromhex(asked["payload"]),
                msg_id=None if msg_id is None else int(msg_id),
                dialect=self._dialect,
            )
            for _ in range(asked.get("times", 1))
        )
        return [str(msg_id) for msg_id in await asyncio.gather(*posts)]

    async def do_handled(self, asked: dict[str, Any]) -> Any:
        """How often the handler began for a flow."""
        return self._player.ran[Principal.from_text(asked["sender"]), int(asked["msg_id"])]

    async def do_heard(self, _asked: dict[str, Any]) -> Any:
        """What the application was told and asked."""
        return {"told": self._player.told, "asked": self._player.asked}

    async def do_direct(self, asked: dict[str, Any]) -> Any:
        """How the application meets what it is told."""
        self._player.trap_until = asked["trap_until"]
        self._player.changed = True

    async def do_flows(self, asked: dict[str, Any]) -> Any:
        """The flows that are stored, of one role."""
        found, cursor = [], None
        while True:
            page = await self._store.flows(role=Role(asked["role"]), after=cursor, limit=1_000)
            found += [
                {
                    "msg_id": str(flow.msg_id),
                    "peer": str(flow.peer),
                    "state": flow.state.value,
                    "attempts": flow.attempts,
                }
                for flow in page.flows
            ]
            cursor = page.next
            if cursor is None:
                return found

    async def do_counters(self, _asked: dict[str, Any]) -> Any:
        """What was counted, by reason."""
        return dict(self.bridge.counters)

    async def do_act(self, asked: dict[str, Any]) -> Any:
        """What the application or the operator does."""
        bridge, msg_id = self.bridge, int(asked["msg_id"])
        peer = Principal.from_text(asked["sender"]) if "sender" in asked else None
        match asked["what"]:
            case "cancel":
                await bridge.cancel(msg_id)
            case "finish" | "drop":
                await bridge.finish(msg_id)
            case "retry":
                await bridge.revive(msg_id)
            case "answer" if peer is not None:
                response = asked["response"]
                given = None if response is None else bytes.fromhex(response)
                await bridge.answer(peer, msg_id, given)
            case "rerun" if peer is not None:
                await bridge.rerun(peer, msg_id)
            case "forget" if peer is not None:
                await bridge.release(peer, msg_id)
            case other:
                raise _UnsupportedError(f"a bridge's application cannot {other}")


async def _answer(driver: Driver, line: bytes) -> dict[str, Any]:
    try:
        asked = json.loads(line)
        command = getattr(driver, f"do_{asked['do']}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return {"unsupported": f"no such command: {error}"}
    try:
        return {"ok": await command(asked)}
    except _UnsupportedError as error:
        return {"unsupported": str(error)}
    except BridgeError as error:
        return {"refused": str(error)}


async def serve() -> None:
    """Obey until standard input ends."""
    driver = Driver()
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader(limit=1 << 25)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin.buffer)
    try:
        while line := await lines.readline():
            answer = await _answer(driver, line)
            driver.remember()
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
    finally:
        await driver.do_end({})


if __name__ == "__main__":
    asyncio.run(serve())
