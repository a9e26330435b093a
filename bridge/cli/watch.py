"""``ic-bridge watch``: flows of canisters and of bridges' stores, for people and for cron.

What is found goes to stdout, gaps and faults to stderr. Leaves with the highest code that one of
the sources gives: 0 yes, 1 a negative answer, 2 usage, 3 network, 4 not to be trusted.
"""

import asyncio
import contextlib
import io
import json
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

import click

from bridge.cli import watch_view as view
from bridge.cli.watch_sources import Sources, asking
from bridge.errors import BridgeError, PolicyError, UsageError
from bridge.flow.quantities import parse_duration
from bridge.monitor.records import STATES, UNSETTLED, FlowEvent, FlowList, Seen, Status
from bridge.monitor.watch import Watch, state_named, together

_Result = TypeVar("_Result")

_OVERDUE: Final = "overdue"


def duration(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    """A duration such as ``10 min``, in nanoseconds."""
    if value is None:
        return None
    try:
        return parse_duration(value, of="the duration")
    except PolicyError as error:
        raise click.BadParameter(str(error)) from error


def _conditions(
    _ctx: click.Context, _param: click.Parameter, value: str | None
) -> frozenset[str] | None:
    """Names of states, and ``overdue``, with commas between them."""
    if value is None:
        return None
    names = frozenset(part.strip() for part in value.split(","))
    for name in sorted(names - {_OVERDUE}):
        try:
            state_named(name)
        except UsageError as error:
            raise click.BadParameter(str(error)) from error
    return names


def _complete_conditions(
    _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[str]:
    before, comma, begun = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in (*STATES, _OVERDUE) if name.startswith(begun)]


_JSON: Final = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")


@click.group()
def watch() -> None:
    """Watch flows: how they stand, and what happens to them.

    A SOURCE is a canister's id, or where a bridge keeps its flows: an SQLite file or a
    postgresql:// URI. NAME=SOURCE calls it so.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # what a canister says may be in any alphabet
        sys.stdout.reconfigure(errors="backslashreplace")


# --- Asking once ----------------------------------------------------------------------------------


async def _of_each(
    sources: Sources,
    ask: Callable[[Watch], Awaitable[_Result]],
    tell: Callable[[list[_Result]], None],
) -> int:
    """Ask each source, tell what they answered, complain of the others; the worst exit code."""

    async def of_one(one: Watch) -> _Result | BridgeError:
        try:
            async with one:
                return await ask(one)
        except BridgeError as error:
            return error

    async with sources.opened() as watches:
        found = await together(of_one(one) for one in watches)
    tell([result for result in found if not isinstance(result, BridgeError)])
    return max(
        (
            view.complain(one.name, result)
            for one, result in zip(watches, found, strict=True)
            if isinstance(result, BridgeError)
        ),
        default=0,
    )


@watch.command()
@asking
@_JSON
def status(sources: Sources, as_json: bool) -> None:
    """Show what flows take of the quotas, what was counted, and who sends much."""

    async def ask(one: Watch) -> Status:
        return await one.status()

    def tell(found: list[Status]) -> None:
        if as_json:
            for one in found:
                click.echo(json.dumps(view.status_document(one)))
        elif found:
            view.show_statuses(found)

    raise SystemExit(asyncio.run(_of_each(sources, ask, tell)))


@watch.command()
@asking
@click.option("--role", type=click.Choice(["sender", "receiver"]), help="Only those of this side.")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(list(STATES)),
    help="Only those in this state. May be repeated. "
    "If left out, all but acknowledged and finished ones.",
)
@click.option("--all", "every", is_flag=True, help="Those in any state.")
@click.option("--peer", metavar="ID", help="Only those with this peer.")
@click.option(
    "--idle",
    callback=duration,
    default="0 s",
    metavar="DURATION",
    help="Only those in the same state for so long, such as '10 min'.",
)
@click.option(
    "--limit",
    type=click.IntRange(1, 1_000_000),
    default=1_000,
    show_default=True,
    help="At most so many of each source.",
)
@click.option(
    "--fail-on",
    callback=_conditions,
    shell_complete=_complete_conditions,
    metavar="LIST",
    help="Leave with 1 if a flow that was found is in one of these states, or overdue: "
    "dead_letter,stalled,overdue",
)
@click.option(
    "--grace",
    callback=duration,
    default="1 min",
    show_default=True,
    metavar="DURATION",
    help="How late a flow may be before it is overdue.",
)
@_JSON
def flows(
    sources: Sources,
    role: str | None,
    states: tuple[str, ...],
    every: bool,
    peer: str | None,
    idle: int,
    limit: int,
    fail_on: frozenset[str] | None,
    grace: int,
    as_json: bool,
) -> None:
    """List flows, the longest unchanged first.

    For cron: ic-bridge watch flows SOURCE --fail-on dead_letter,stalled
    """
    if every and states:
        raise click.UsageError("--all and --state exclude each other")
    wanted = None if every else (states or tuple(str(state) for state in UNSETTLED))
    conditions = fail_on or frozenset()
    unseen = conditions - {_OVERDUE, *(STATES if wanted is None else wanted)}
    if unseen:
        raise click.UsageError(
            f"--fail-on names {', '.join(sorted(unseen))}, which is not looked for: "
            "add it by --state, or give --all"
        )

    async def ask(one: Watch) -> tuple[FlowList, int]:
        found = await one.flows(role=role, state=wanted, peer=peer, idle_for=idle, limit=limit)
        return found, (await one.status()).time

    failed = False

    def tell(found: list[tuple[FlowList, int]]) -> None:
        nonlocal failed
        if as_json:
            for one, _ in found:
                click.echo(json.dumps(view.flows_document(one)))
        elif found:
            view.show_flows(found)
        for one, now in found:
            failed = _fails(one, now, conditions, grace) or failed

    code = asyncio.run(_of_each(sources, ask, tell))
    raise SystemExit(max(code, int(failed)))


def _fails(found: FlowList, now: int, conditions: frozenset[str], grace: int) -> bool:
    """Whether a condition holds, or cannot be excluded; says so."""
    bad: dict[str, int] = {}
    for flow in found:
        late = flow.due is not None and flow.due + grace < now
        for name in conditions & {str(flow.state), *([_OVERDUE] if late else ())}:
            bad[name] = bad.get(name, 0) + 1
    for name, count in sorted(bad.items()):
        view.say(found.source, f"{count} {'flow is' if count == 1 else 'flows are'} {name}")
    if not found.complete:
        view.say(found.source, "there are more flows than these; raise --limit")
    return bool(bad) or (bool(conditions) and not found.complete)


# --- Following ------------------------------------------------------------------------------------


async def until_stopped(work: Coroutine[Any, Any, int]) -> int:
    """Run until it ends or this process is told to: then the exit code is 0."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        return await task
    except asyncio.CancelledError:
        if not stopped:
            raise
        return 0


@watch.command()
@asking
@click.option(
    "--after",
    type=click.IntRange(0, 2**64 - 1),
    metavar="SEQ",
    help="Only those after the event of this number.",
)
@click.option("--new", is_flag=True, help="Only those that come from now on; implies --follow.")
@click.option("--follow", is_flag=True, help="Go on with what is yet to come, until interrupted.")
@click.option(
    "--every",
    callback=duration,
    default="2 s",
    show_default=True,
    metavar="DURATION",
    help="Between two looks while following.",
)
@click.option(
    "--patience",
    callback=duration,
    metavar="DURATION",
    help="Give up after so long without an answer; if left out, never.",
)
@_JSON
def events(
    sources: Sources,
    after: int | None,
    new: bool,
    follow: bool,
    every: int,
    patience: int | None,
    as_json: bool,
) -> None:
    """Show what happened to canisters' flows, oldest first.

    What is missing is told too: events that the bounded history has lost, a reinstalled canister, a
    network that was away.
    """
    if new and after is not None:
        raise click.UsageError("--new and --after exclude each other")

    async def of_one(one: Watch, several: bool) -> int:
        try:
            async with one:
                begin: int | FlowEvent = after or 0
                if new:
                    begin = await one.latest_event() or 0
                seen_so_far = one.events(
                    after=begin,
                    follow=follow or new,
                    poll_every=every / 1e9,
                    patience=None if patience is None else patience / 1e9,
                )
                async with contextlib.aclosing(seen_so_far):
                    async for seen in seen_so_far:
                        _tell(one, seen, several)
        except BridgeError as error:
            return view.complain(one.name, error)
        return 0

    def _tell(one: Watch, seen: Seen, several: bool) -> None:
        if as_json:
            click.echo(json.dumps(view.event_document(one, seen)))
        elif isinstance(seen, FlowEvent):
            click.echo(f"{view.shown(one.name)} {seen}" if several else str(seen))
        else:
            view.say(one.name, str(seen))

    async def run() -> int:
        async with sources.opened() as watches:
            if not as_json:
                view.say_trust(one.trust for one in watches if one.kind == "canister")
            return max(await together(of_one(one, len(watches) > 1) for one in watches))

    raise SystemExit(asyncio.run(until_stopped(run())))


# --- Metrics --------------------------------------------------------------------------------------


def _address(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[str, int]:
    """A host and a port, such as ``127.0.0.1:9654`` or ``[::1]:0``."""
    host, colon, port = value.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65_535:
        raise click.BadParameter(f"{value!r} is no address and port, such as 127.0.0.1:9654")
    return host, int(port)


@watch.command()
@asking
@click.option(
    "--listen",
    default="127.0.0.1:9654",
    show_default=True,
    metavar="HOST:PORT",
    callback=_address,
    help="Where to serve; port 0 picks a free one.",
)
@click.option(
    "--floor",
    callback=duration,
    default="10 s",
    show_default=True,
    metavar="DURATION",
    help="Look at a source no more often than that, however often it is scraped.",
)
@click.option(
    "--timeout",
    callback=duration,
    default="8 s",
    show_default=True,
    metavar="DURATION",
    help="How long a look, and so a scrape, may take.",
)
@click.option(
    "--peers",
    type=click.IntRange(0, 1_000),
    default=20,
    show_default=True,
    help="Peers of a source with labels of their own; the rest is 'other'.",
)
@click.option("--json", "_as_json", is_flag=True, help="Print JSON, which is done in any case.")
def export(
    sources: Sources,
    listen: tuple[str, int],
    floor: int,
    timeout: int,
    peers: int,
    _as_json: bool,
) -> None:
    """Serve metrics to Prometheus until interrupted. Prints one JSON line with url when it does.

    Whoever reaches the address reads them: it is this machine's own unless another is given.
    """
    from bridge.monitor import Exporter  # noqa: PLC0415 - prometheus-client is an extra

    async def run() -> int:
        async with sources.opened() as watches:
            exporter = Exporter(watches, floor=floor / 1e9, timeout=timeout / 1e9, most_peers=peers)
            async with exporter.serving(*listen) as url:
                click.echo(json.dumps({"url": url}))
                await asyncio.Event().wait()
        return 0

    raise SystemExit(asyncio.run(until_stopped(run())))
