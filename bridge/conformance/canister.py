"""A canister as one end: installed for the scenario, or used as it stands."""

import asyncio
import gzip
import itertools
import re
import secrets
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any, Final

from bridge import candid, dialects
from bridge.candid import Case
from bridge.conformance.endpoint import Endpoint, Outcome
from bridge.conformance.entry import Entry, Method
from bridge.conformance.world import EMPTY, MINUTE, World
from bridge.errors import BridgeError, CallRejectedError
from bridge.principal import Principal
from bridge.reference import SHORT_WAITS
from bridge.reference.contract import install_types

_HOLE: Final = re.compile(r"\{(to|to_text|payload|msg_id|sender|dialect)\}")
_GZIP: Final = b"\x1f\x8b"
_HELD: Final = MINUTE
_FIRST_DRAWN: Final = 5_000_001  # below those that scenarios give
_RUNTIME_REFUSES: Final = "IC0503"  # it trapped before the upgrade
_NO_MODULE: Final = "IC0505"
_INVALID: Final = "Wasm module is not valid:"  # what networks say of the module itself
_NO_PEER: Final = dict.fromkeys(["dialect", "null_ack", "ids", "batch", "attach_cycles"])


def peer(canister_id: Principal, **given: Any) -> dict[str, Any]:
    """What is configured for one peer, as ``candid/settings.did`` has it."""
    return {"peer": canister_id, **_NO_PEER, **given}


def nobody_there(entry: Entry, where: str) -> str:
    """What is said of a canister that stands not where it is looked for."""
    return (
        f"there is no canister {entry.canister} with a module on {where}: say where {entry.name} "
        "stands, by --network or by url in its entry"
    )


@cache
def _interface(text: str) -> candid.Interface:
    return candid.parse_did(text)


class CanisterEnd(Endpoint):
    """One canister.

    Args:
        world: Where it runs.
        entry: The implementation.
        dialect: What it speaks.
        address: Its id.
        interface: What its metadata says of its methods; ``None`` where it says nothing.
        argument: With which it was installed.
    """

    def __init__(
        self,
        world: World,
        entry: Entry,
        dialect: str,
        address: Principal,
        interface: candid.Interface | None,
        argument: bytes = EMPTY,
    ) -> None:
        self.entry = entry
        self.dialect = dialect
        self.address = address
        self._world = world
        self._argument = argument
        # An embedded replica is made anew for each scenario; elsewhere a canister may stay.
        self._drawn = itertools.count(
            _FIRST_DRAWN if world.virtual else (1 << 80) + (secrets.randbits(32) << 48)
        )
        watched = entry.asked == "watch"
        service = interface.service if interface and watched else None
        self._methods: Mapping[str, candid.Func] = service.methods if service else {}
        self.powers = self._read_powers()

    @classmethod
    async def deploy(
        cls,
        world: World,
        entry: Entry,
        dialect: str,
        role: str,
        settings: Mapping[str, Any],
        peers: list[dict[str, Any]],
    ) -> "CanisterEnd":
        """Install it, unless it stands already.

        Args:
            world: Where.
            entry: The implementation.
            dialect: What it shall speak.
            role: ``sender`` or ``receiver``: which messages it has to take.
            settings: Beside those of every run, where it takes our settings.
            peers: What it shall know of its peers, where it takes our settings.

        Raises:
            BridgeError: If it cannot be installed, or publishes an interface without the methods
                that the dialect has for the role.
        """
        argument = install_argument(entry, world, settings, peers)
        if entry.canister is not None:
            address = entry.canister
            where = "the embedded replica" if world.virtual else world.network.url
            if await world.agent.module_hash(address) is None:
                raise BridgeError(nobody_there(entry, where))
        else:
            address = await world.create()
            try:
                await world.install(address, entry.module(dialect), argument)
            except CallRejectedError as error:
                raise _refusal(error, entry, dialect) from error
        interface = await _published(world, entry, address)
        if interface is not None:
            _check_methods(entry, dialect, role, interface)
        end = cls(world, entry, dialect, address, interface, argument)
        if entry.canister is not None and "player" in end.powers:
            world.closers.append(end.direct)
        return end

    @classmethod
    async def deploy_variant(
        cls, world: World, entry: Entry, dialect: str, name: str, settings: Mapping[str, Any]
    ) -> "CanisterEnd | None":
        """A variant that speaks a dialect; ``None`` where the entry names none."""
        wasm = entry.variant(name, dialect)
        if wasm is None:
            return None
        more = entry.variants[name].install_fields
        if more:
            entry = replace(entry, install_fields=more)
        address = await world.create()
        argument = install_argument(entry, world, settings, [])
        await world.install(address, wasm, argument)
        interface = await _published(world, entry, address)
        return cls(world, entry, dialect, address, interface, argument)

    def _read_powers(self) -> frozenset[str]:
        entry, offers = self.entry, self._methods
        powers = set(entry.answers)
        if entry.send is not None:
            powers.add("open")
        if entry.canister is None:
            powers |= {"upgrade", "life", "kill"}
        if entry.asked == "watch":
            if "act" in offers:
                powers |= {"open", "ids", "player", "outcome", "null"}
            if "send" in offers:
                powers.add("open")
            named = {
                "outcome": "outcome",
                "handled": "handled",
                "asyncFlow_flows": "flows",
                "asyncFlow_status": "counters",
                "asyncFlow_configure": "settings",
                "asyncFlow_batch": "batch",
                "asyncFlow_outbox": "outbox",
            }
            powers |= {power for method, power in named.items() if method in offers}
            if entry.canister is not None:
                # What stands there is somebody's: nothing that a scenario sets may remain.
                powers.discard("settings")
        return frozenset(powers)

    @property
    def methods(self) -> Mapping[str, candid.Func]:
        return self._methods

    # --- Calls ----------------------------------------------------------------------------------

    async def call(self, name: str, *values: Any) -> Any:
        """A method by its published type; what it returns, ``None`` for nothing."""
        method = self._methods[name]
        ask = self._world.agent.query if "query" in method.modes else self._world.agent.update
        reply = await ask(self.address, name, candid.encode(method.args, list(values)))
        results = candid.decode(method.results, reply)
        return results[0] if results else None

    async def _by_entry(self, method: Method, **values: Any) -> list[Any]:
        """A method as the entry describes it: the value, or all that its list has of a flow."""

        def filled(hole: re.Match[str]) -> str:
            return _in_candid(hole[1], {"dialect": self.dialect, **values})

        text = _HOLE.sub(filled, method.arguments)
        types, arguments = candid.infer_values(text)
        ask = self._world.agent.query if method.query else self._world.agent.update
        reply = await ask(self.address, method.name, candid.encode(types, arguments))
        found = candid.decode_untyped(reply) if reply.startswith(b"DIDL") else []
        if method.where:
            listed = found[0] if found and isinstance(found[0], list) else []
            found = [e for e in listed if _field(e, method.where) == values["msg_id"]]
        for step in method.field.split(".")[1:]:
            found = [_field(value, step) for value in found]
        return found

    # --- As a sender --------------------------------------------------------------------------

    async def open(self, to: Principal, payload: bytes, msg_id: int | None = None) -> int | None:
        self.need("open")
        if (method := self.entry.send) is not None:
            if msg_id is None and "{msg_id}" in method.arguments:
                msg_id = next(self._drawn)
            answer = await self._by_entry(method, to=to, to_text=to, payload=payload, msg_id=msg_id)
            return answer[0] if answer and isinstance(answer[0], int) else None
        if "act" in self._methods:
            if msg_id is None:
                ids = await self.call("burst", {"to": to, "payload": payload, "times": 1})
                return int(ids[0])
            flow = {"msg_id": msg_id, "to": to, "payload": payload, "dialect": Case(self.dialect)}
            if refused := await self.act("send", flow):
                raise BridgeError(f"{self.entry.name} opened no flow: {refused}")
            return msg_id
        answer = await self.call("send", {"to": to, "payload": payload})
        if answer.label == "err":
            raise BridgeError(f"{self.entry.name} opened no flow: {answer.value}")
        return int(answer.value)

    async def open_many(self, to: Principal, payload: bytes, times: int) -> None:
        if self.entry.send is None and "burst" in self._methods:
            await self.call("burst", {"to": to, "payload": payload, "times": times})
            return
        for _ in range(times):  # one after another: their order must be the same in every run
            await self.open(to, payload)

    async def outcome(self, msg_id: int) -> Outcome | None:
        self.need("outcome")
        if method := self.entry.answers.get("outcome"):
            found = [v for v in await self._by_entry(method, msg_id=msg_id) if v is not None]
            return Outcome(response=found[0], times=len(found)) if found else None
        if "act" in self._methods:
            return Outcome.among(await self.told(), msg_id)
        ended = await self.call("outcome", msg_id)
        if ended is None:
            return None
        if ended.label == "failed":
            return Outcome(failure=ended.value.label)
        return Outcome(response=ended.value["response"], late=ended.value["late"])

    # --- As a receiver --------------------------------------------------------------------------

    async def handled(self, sender: Principal, msg_id: int) -> int:
        self.need("handled")
        if method := self.entry.answers.get("handled"):
            found = await self._by_entry(method, sender=sender, msg_id=msg_id)
            return len(found) if method.where else int(found[0])
        return int(await self.call("handled", {"sender": sender, "msg_id": msg_id}))

    # --- Watching -------------------------------------------------------------------------------

    async def flows(self, role: str) -> list[dict[str, Any]]:
        self.need("flows")
        found: list[dict[str, Any]] = []
        cursor = None
        while True:
            page = await self.call(
                "asyncFlow_flows",
                {"role": Case(role), "state": None, "cursor": cursor, "limit": 100},
            )
            found += page["flows"]
            cursor = page["next"]
            if cursor is None:
                return found

    async def counters(self) -> dict[str, int]:
        self.need("counters")
        return dict((await self.call("asyncFlow_status"))["counters"])

    async def configure(
        self,
        settings: Mapping[str, Any] | None = None,
        *,
        access: Mapping[str, Any] | None = None,
        peers: list[dict[str, Any]] | None = None,
    ) -> None:
        self.need("settings")
        change: dict[str, Any] = {"settings": None, "access": None, "peers": peers}
        if settings is not None:
            change["settings"] = dict(settings)
        if access is not None:
            change["access"] = {"canisters": None, "agents": [], "monitors": [], **access}
        answer = await self.call("asyncFlow_configure", change)
        if answer.label == "err":
            raise BridgeError(f"{self.entry.name} refuses its settings: {answer.value}")

    # --- The application ------------------------------------------------------------------------

    async def act(self, what: str, value: Any) -> str | None:
        self.need("player")
        answer = await self.call("act", Case(what, value))
        return None if answer.label == "ok" else str(answer.value)

    async def direct(
        self, *, trap_until: int = 0, decision: Any = None, rerun: bool = False
    ) -> None:
        self.need("player")
        how = {"trap_until": trap_until, "decision": decision, "rerun": rerun}
        await self.call("direct", how)

    async def told(self) -> list[dict[str, Any]]:
        self.need("player")
        return list((await self.call("heard"))["told"])

    async def asked(self) -> list[dict[str, Any]]:
        self.need("player")
        return list((await self.call("heard"))["asked"])

    # --- Life -----------------------------------------------------------------------------------

    async def upgrade(self) -> None:
        self.need("upgrade")
        await self.stop()
        try:
            await self._replace()
        finally:
            await self._world.manage("start_canister", self.address)

    async def _replace(self) -> None:
        arg = self._argument  # of others it is not known what their upgrade makes of none
        if self.entry.install == "reference":
            arg = candid.encode(install_types("settings"), [None])
        wasm = self.entry.module(self.dialect)
        await self._world.install(self.address, wasm, arg, mode="upgrade")

    async def hold(self, nth: int) -> bytes | None:
        if not self._world.virtual:
            return None
        await self._world.delay(self.address, self.address, nth, _HELD)
        return b"trap-once"

    async def crash(self) -> None:
        self.need("kill")
        try:
            await self._replace()
        except CallRejectedError as error:
            if error.error_code != _RUNTIME_REFUSES:
                raise
            # Motoko's runtime loses no call that is awaited: such a canister has to be stopped, and
            # what it awaits of itself is rejected meanwhile.
            stopping = asyncio.create_task(self.stop())
            try:
                await self._world.becomes(self.address, "stopping")
                await self._world.step(_HELD)
            finally:
                await stopping
            await self._replace()
            await self.start()

    async def go_back(self) -> bool:
        wasm = self.entry.variant("previous", self.dialect)
        if wasm is None or self.entry.canister is not None:
            return False
        await self._world.install(self.address, wasm, self._argument, mode="reinstall")
        return True

    async def alone(self, role: str) -> Endpoint:
        found = await self.deploy_variant(self._world, self.entry, self.dialect, role, {})
        if found is None:
            raise self.lacking_variant(role)
        return found

    async def stop(self) -> None:
        self.need("life")
        await self._world.manage("stop_canister", self.address)

    async def start(self) -> None:
        self.need("life")
        await self._world.manage("start_canister", self.address)
        if "settings" in self.powers:
            # A timer that came while the canister was stopped is armed anew by the next message.
            await self.configure()


def _refusal(error: CallRejectedError, entry: Entry, dialect: str) -> BridgeError:
    """What is said of a refused install: where the file is no valid module, that alone."""
    _, found, why = error.reject_message.partition(_INVALID)
    if error.error_code != _NO_MODULE or not found or dialect not in entry.wasm:
        return error
    return BridgeError(f"{entry.wasm[dialect]} is no valid module: {why.strip()}")


async def _published(world: World, entry: Entry, address: Principal) -> candid.Interface | None:
    """What a canister's public metadata says of its methods; only what is watched has to be read.

    Raises:
        CandidError: If it is no Candid, of a canister that is to be asked by it.
    """
    text = await world.agent.metadata(address, "candid:service")
    if not text:
        return None
    try:
        return _interface(text.decode())
    except (BridgeError, UnicodeDecodeError):
        if entry.asked == "watch":
            raise
        return None


def _check_methods(entry: Entry, dialect: str, role: str, interface: candid.Interface) -> None:
    kinds = ("ACK",) if role == "sender" else ("NEW", "FIN")
    needed = dialects.get(dialect).methods
    offered = interface.service.methods if interface.service else {}
    missing = dict.fromkeys(needed[kind] for kind in kinds if needed[kind] not in offered)
    if entry.canister is not None:
        return  # without its module nothing is known of methods that it does not publish
    # What tells several dialects apart by the argument has methods that Candid cannot describe.
    wasm = entry.module(dialect)
    if wasm.startswith(_GZIP):
        wasm = gzip.decompress(wasm)
    missing = {name: None for name in missing if f"canister_update {name}".encode() not in wasm}
    if missing:
        raise BridgeError(
            f"{entry.name} publishes no method {', '.join(missing)}, which a {role} of {dialect} "
            "must have",
            hint="give the dialect that it speaks",
        )


def _in_candid(hole: str, values: Mapping[str, Any]) -> str:
    value = values.get(hole)
    if hole == "payload":
        return 'blob "' + "".join(f"\\{byte:02x}" for byte in value or b"") + '"'
    if hole == "to_text":
        return f'"{value}"'
    if hole == "msg_id":
        return f"{value} : nat"
    if hole == "dialect":
        return str(value)
    return f'principal "{value}"'


def _field(value: Any, step: str) -> Any:
    """One step of a path into a value that was decoded without its type."""
    if isinstance(value, Case):
        return value.value if value.label in (step, candid.field_id(step)) else None
    if isinstance(value, Mapping):
        return value.get(step, value.get(candid.field_id(step)))
    return None


def install_argument(
    entry: Entry, world: World, settings: Mapping[str, Any], peers: list[dict[str, Any]]
) -> bytes:
    """The argument with which an implementation is installed.

    Where it takes our settings: the protocol's defaults without jitter in virtual time, short waits
    elsewhere, so that a run ends.
    """
    if entry.install != "reference":
        types, values = candid.infer_values(entry.install)
        return candid.encode(types, values)
    base: dict[str, Any] = {} if world.virtual else dict(SHORT_WAITS)
    given = {**base, "jitter_permille": 0, **settings}
    install = {"settings": given, "access": None, "peers": peers}
    (more_type,), (more,) = candid.infer_values(f"({entry.install_fields})")
    if not more:
        return candid.encode(install_types("settings"), [install])
    assert isinstance(more_type, candid.Record)
    (ours,) = install_types("settings")
    assert isinstance(ours, candid.Opt)
    known = candid.resolve(ours.content)
    assert isinstance(known, candid.Record)
    fields = {field.label: field.type for field in (*known.fields, *more_type.fields)}
    return candid.encode([candid.Opt(candid.Record(fields))], [{**install, **more}])
