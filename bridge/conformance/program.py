"""A program as one end: a driver that obeys on its standard streams, behind a mailbox canister.

What a driver is asked, and what it answers, is described in docs/conformance.md.
"""

import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping
from typing import Any, Final

from bridge import candid, contracts
from bridge.candid import Case
from bridge.conformance.endpoint import POWERS, Endpoint, Outcome
from bridge.conformance.entry import Entry
from bridge.conformance.verdicts import LackingError
from bridge.conformance.world import World
from bridge.errors import BridgeError
from bridge.principal import Principal
from bridge.reference import SHORT_WAITS, contract_methods
from bridge.service import mailbox_argument

_PATIENCE: Final = 60.0
_LINE: Final = 1 << 25


# What a driver claims with a power: who claims it and then says unsupported has failed to keep it.
_CLAIMED_BY: Final[Mapping[str, tuple[str, ...]]] = {
    "open": ("open",),
    "heard": ("outcome", "player"),
    "handled": ("handled",),
    "flows": ("flows",),
    "counters": ("counters",),
    "configure": ("settings",),
    "act": ("player",),
    "direct": ("player",),
    "restart": ("upgrade", "life", "mailbox"),
    "stop": ("life", "mailbox"),
}


class RefusedError(BridgeError):
    """A driver that refuses what it is asked, with its reason."""


class Program:
    """One running driver.

    Args:
        command: The program and its arguments; ``python`` is the interpreter that runs this.
    """

    def __init__(self, command: tuple[str, ...]) -> None:
        self._command = command
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def ask(self, do: str, **asked: Any) -> Any:
        """Ask one thing; what it answered.

        Raises:
            LackingError: If it says that it cannot.
            RefusedError: If it refuses.
            BridgeError: If it is not there any more, or gives no answer of the kind.
        """
        async with self._turn:
            answer = await self._exchange({"do": do, **asked})
        if "unsupported" in answer:
            raise LackingError(str(answer["unsupported"]))
        if "refused" in answer:
            raise RefusedError(str(answer["refused"]))
        return answer.get("ok")

    async def _exchange(self, asked: dict[str, Any]) -> dict[str, Any]:
        process = await self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(asked).encode() + b"\n")
            async with asyncio.timeout(_PATIENCE):
                await process.stdin.drain()
                line = await process.stdout.readline()
            answer = json.loads(line)
        except TimeoutError:
            await self.end()
            raise BridgeError(
                f"the driver {self._command[0]} does not answer to {asked['do']} for "
                f"{_PATIENCE:.0f} s",
                hint="see that it writes one line for each line that it reads",
            ) from None
        except (OSError, ValueError) as error:
            await self.end()
            raise BridgeError(
                f"the driver {self._command[0]} gives no answer to {asked['do']}: {error}",
                hint="run it by hand and give it a line of JSON",
            ) from error
        if not isinstance(answer, dict):
            raise BridgeError(f"the driver {self._command[0]} answers {line[:80]!r}, no object")
        return answer

    async def _running(self) -> asyncio.subprocess.Process:
        if self._process is None:
            name, *rest = self._command
            command = [sys.executable if name == "python" else name, *rest]
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *command,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.DEVNULL,
                    limit=_LINE,
                )
            except OSError as error:
                raise BridgeError(
                    f"the driver {name} cannot be started: {error.strerror or error}",
                    hint="give the command as a list of texts in the entry",
                ) from error
        return self._process

    async def kill(self) -> None:
        """Kill the process, as a machine that fails does; the next question starts another."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()

    async def end(self) -> None:
        """End the process: its standard input ends, and it is killed if it goes on."""
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(5):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


class ProgramEnd(Endpoint):
    """One driver as an end; peers know it by its mailbox.

    Args:
        world: Where it plays.
        entry: The implementation.
        dialect: What it speaks.
        program: The driver.
        address: Its mailbox.
        powers: What it says that it can.
        given: With what it was started.
    """

    def __init__(
        self,
        world: World,
        entry: Entry,
        dialect: str,
        program: Program,
        address: Principal,
        powers: frozenset[str],
        given: dict[str, Any],
    ) -> None:
        self.entry = entry
        self.dialect = dialect
        self.address = address
        self.powers = powers
        self._world = world
        self._program = program
        self._given = given
        self._configured: list[dict[str, Any]] = []

    @classmethod
    async def deploy(
        cls,
        world: World,
        entry: Entry,
        dialect: str,
        scenario: str,
        settings: Mapping[str, Any],
        peers: list[dict[str, Any]],
        program: Program,
    ) -> "ProgramEnd":
        """Give it a mailbox and start it.

        Raises:
            LackingError: If it says that it does not support the scenario.
            BridgeError: If it cannot be started.
        """
        hello = await program.ask("hello")
        await program.ask("scenario", id=scenario)
        owner = Principal.from_text(hello["principal"])
        address = await world.create()
        wasm = contracts.rust_canister("mailbox")
        await world.install(address, wasm, mailbox_argument(owner))
        base: dict[str, Any] = {} if world.virtual else dict(SHORT_WAITS)
        root_key = world.network.root_key
        given = {
            "url": world.network.url,
            "root_key": root_key.hex() if root_key else None,
            "mailbox": str(address),
            "dialect": dialect,
            "settings": {**base, "jitter_permille": 0, **settings},
            "peers": _plain(peers),
            "folder": tempfile.mkdtemp(prefix="ic-bridge-conformance-"),
        }
        powers = frozenset(hello["powers"]) & set(POWERS)
        if "life" in powers:
            powers |= {"mailbox"}
        end = cls(world, entry, dialect, program, address, powers, given)
        world.closers.append(end.close)
        await end._start()
        if world.virtual:
            world.settlers.append(end.step)
        return end

    @property
    def methods(self) -> Mapping[str, candid.Func]:
        return contract_methods("mailbox")

    async def _ask(self, do: str, **asked: Any) -> Any:
        """Ask one thing of a driver that plays.

        Raises:
            LackingError: If it says that it cannot, and has not claimed that it can.
            RefusedError: If it refuses.
            BridgeError: If it says that it cannot do what it claimed, or is not there any more.
        """
        try:
            return await self._program.ask(do, **asked)
        except LackingError as error:
            needed = _CLAIMED_BY.get(do)
            if needed is not None and self.powers.isdisjoint(needed):
                raise
            claimed = ", ".join(sorted(self.powers & set(needed or ()))) or "that it can be played"
            raise BridgeError(
                f"the driver of {self.entry.name} claims {claimed}, and says unsupported when it "
                f"is asked for {do}: {error.reason}",
                hint="leave the power out of what it answers to hello, or the scenario to scenario",
            ) from error

    async def _start(self, *, again: bool = False) -> None:
        now = self._world.now if self._world.virtual else None
        await self._ask("start", **self._given, now=now, again=again)

    async def step(self) -> tuple[bool, int | None]:
        """Have it do what is to be done at this time; whether it did, and when next."""
        answer = await self._ask("step", now=self._world.now)
        return bool(answer["moved"]), answer["due"]

    # --- As a sender and as a receiver ----------------------------------------------------------

    async def open(self, to: Principal, payload: bytes, msg_id: int | None = None) -> int | None:
        given = None if msg_id is None else str(msg_id)
        ids = await self._ask("open", to=str(to), payload=payload.hex(), msg_id=given)
        return int(ids[0])

    async def open_many(self, to: Principal, payload: bytes, times: int) -> None:
        await self._ask("open", to=str(to), payload=payload.hex(), times=times)

    async def outcome(self, msg_id: int) -> Outcome | None:
        return Outcome.among(await self.told(), msg_id)

    async def handled(self, sender: Principal, msg_id: int) -> int:
        return int(await self._ask("handled", sender=str(sender), msg_id=str(msg_id)))

    async def flows(self, role: str) -> list[dict[str, Any]]:
        return [
            {
                **flow,
                "msg_id": int(flow["msg_id"]),
                "peer": Principal.from_text(flow["peer"]),
                "state": Case(flow["state"]),
            }
            for flow in await self._ask("flows", role=role)
        ]

    async def counters(self) -> dict[str, int]:
        return dict(await self._ask("counters"))

    async def configure(
        self,
        settings: Mapping[str, Any] | None = None,
        *,
        access: Mapping[str, Any] | None = None,
        peers: list[dict[str, Any]] | None = None,
    ) -> None:
        asked = {"settings": settings, "access": _plain(access), "peers": _plain(peers)}
        await self._ask("configure", **asked)
        self._configured.append(asked)

    # --- The application ------------------------------------------------------------------------

    async def act(self, what: str, value: Any) -> str | None:
        asked = value if isinstance(value, dict) else {"msg_id": value}
        plain = {**_plain(asked), "msg_id": str(asked["msg_id"])}
        try:
            await self._ask("act", what=what, **plain)
        except RefusedError as error:
            return str(error)
        return None

    async def direct(
        self, *, trap_until: int = 0, decision: Any = None, rerun: bool = False
    ) -> None:
        await self._ask("direct", trap_until=trap_until, decision=decision, rerun=rerun)

    async def told(self) -> list[dict[str, Any]]:
        return [
            {
                **telling,
                "what": Case(telling["what"]),
                "failure": telling["failure"] and Case(telling["failure"]),
                "response": None
                if telling["response"] is None
                else bytes.fromhex(telling["response"]),
            }
            for telling in (await self._ask("heard"))["told"]
        ]

    async def asked(self) -> list[dict[str, Any]]:
        return list((await self._ask("heard"))["asked"])

    # --- Life -----------------------------------------------------------------------------------

    async def upgrade(self) -> None:
        await self._ask("restart")

    async def hold(self, nth: int) -> bytes | None:
        del nth
        return b"hang" if "kill" in self.powers else None

    async def crash(self) -> None:
        self.need("kill")
        await self._program.kill()
        await self._start(again=True)
        for asked in self._configured:
            await self._ask("configure", **asked)

    async def leave(self) -> None:
        self.need("mailbox")
        await self._ask("stop")

    async def come_back(self) -> None:
        self.need("mailbox")
        await self._ask("restart")

    async def alone(self, role: str) -> Endpoint:
        self.need("alone")
        self._given["role"] = role
        await self._start()
        return self

    async def stop(self) -> None:
        await self._ask("stop")
        await self._world.manage("stop_canister", self.address)

    async def start(self) -> None:
        await self._world.manage("start_canister", self.address)
        await self._ask("restart")

    async def close(self) -> None:
        """End it, and forget all that it stored."""
        try:
            await self._ask("end")
        finally:
            shutil.rmtree(self._given["folder"], ignore_errors=True)


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple) and not isinstance(value, Case):
        return [_plain(inner) for inner in value]
    if isinstance(value, Case):
        return value.label
    if isinstance(value, Principal):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    return value
