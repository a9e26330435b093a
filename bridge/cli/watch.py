"""``ic-bridge watch``: flows of canisters and of bridges' stores, for people and for cron.

What is found goes to stdout, gaps and faults to stderr. Leaves with the highest code that one of
the sources gives; which, `bridge.cli.watch_conditions` decides.
"""

import asyncio
import contextlib
import io
import json
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

import click

from bridge.cli import watch_view as view
from bridge.cli.watch_conditions import HOLDS, Conditions
from bridge.cli.watch_sources import Sources, asking
from bridge.errors import BridgeError, PolicyError, TransportError, UsageError
from bridge.flow.quantities import parse_duration
from bridge.monitor.records import STATES, UNSETTLED, FlowEvent, FlowList, Seen, Status
from bridge.monitor.watch import Watch, together

_Result = TypeVar("_Result")

_MOST_JUDGED: Final = 1_000_000  # flows that conditions are sought among


def duration(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    """A duration such as ``10 min``, in nanoseconds."""
    if value is None:
        return None
    try:
        return parse_duration(value, of="the duration")
    except PolicyError as error:
        raise click.BadParameter(str(error)) from error


def _conditions(_ctx: click.Context, _param: click.Parameter, value: str | None) -> Conditions:
    if value is None:
        return Conditions()
    try:
        return Conditions.parse(value)
    except UsageError as error:
        raise click.BadParameter(str(error)) from error


def _complete_conditions(
    _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[str]:
    before, comma, begun = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in Conditions.NAMES if name.startswith(begun)]


_JSON: Final = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
_TIMEOUT: Final = click.option(
    "--timeout",
    callback=duration,
    default="1 min",
    show_default=True,
    metavar="DURATION",
    help="Give a source up after so long, unless it is followed.",
)


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
    within: int,
    ask: Callable[[Watch], Awaitable[_Result]],
    tell: Callable[[list[_Result]], int],
) -> int:
    """Ask each source, tell what they answered, complain of the others; the worst exit code."""

    async def of_one(one: Watch) -> _Result | BridgeError:
        try:
            async with _in_time(within), one:
                return await ask(one)
        except BridgeError as error:
            return error

    async with sources.opened() as watches:
        found = await together(of_one(one) for one in watches)
    codes = [tell([result for result in found if not isinstance(result, BridgeError)])]
    for one, result in zip(watches, found, strict=True):
        if isinstance(result, BridgeError):
            codes.append(view.complain(one.name, result))
    return max(codes)


@contextlib.asynccontextmanager
async def _in_time(nanoseconds: int | None) -> AsyncIterator[None]:
    """Let a block take so long.

    Raises:
        TransportError: If it takes longer.
    """
    limit = asyncio.timeout(None if nanoseconds is None else nanoseconds / 1e9)
    try:
        async with limit:
            yield
    except TimeoutError as error:
        if nanoseconds is None or not limit.expired():
            raise
        raise TransportError(
            f"there was no whole answer within {nanoseconds / 1e9:g} s",
            hint="see whether it can be reached, or give it longer: --timeout '5 min'",
        ) from error


@watch.command()
@asking
@_TIMEOUT
@_JSON
def status(sources: Sources, timeout: int, as_json: bool) -> None:
    """Show what flows take of the quotas, what was counted, and who sends much."""

    async def ask(one: Watch) -> Status:
        return await one.status()

    def tell(found: list[Status]) -> int:
        if as_json:
            for one in found:
                click.echo(json.dumps(view.status_document(one)))
        elif found:
            view.show_statuses(found)
        return 0

    raise SystemExit(asyncio.run(_of_each(sources, timeout, ask, tell)))


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
    help="Show at most so many of each source; --fail-on looks at all.",
)
@click.option(
    "--fail-on",
    callback=_conditions,
    shell_complete=_complete_conditions,
    metavar="LIST",
    help="Leave with 1 if a flow that fits is in one of these states, or overdue: "
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
@_TIMEOUT
@_JSON
def flows(
    sources: Sources,
    role: str | None,
    states: tuple[str, ...],
    every: bool,
    peer: str | None,
    idle: int,
    limit: int,
    fail_on: Conditions,
    grace: int,
    timeout: int,
    as_json: bool,
) -> None:
    """List flows, the longest unchanged first.

    For cron: ic-bridge watch flows SOURCE --fail-on dead_letter,stalled
    """
    if every and states:
        raise click.UsageError("--all and --state exclude each other")
    wanted = None if every else (states or tuple(str(state) for state in UNSETTLED))
    unseen = fail_on.unseen(wanted)
    if unseen:
        raise click.UsageError(
            f"--fail-on names {', '.join(unseen)}, which is not looked for: "
            "add it by --state, or give --all"
        )

    async def ask(one: Watch) -> tuple[FlowList, int, list[str]]:
        async def fitting(states: Sequence[str] | None, most: int) -> FlowList:
            return await one.flows(role=role, state=states, peer=peer, idle_for=idle, limit=most)

        shown = judged = await fitting(wanted, limit)
        if not shown.complete:  # what is not shown may fulfil a condition all the same
            judged = await fitting(fail_on.states(wanted), _MOST_JUDGED)
        now = (await one.status()).time
        return shown, now, fail_on.that_hold(judged, now=now, grace=grace)

    def tell(found: list[tuple[FlowList, int, list[str]]]) -> int:
        if as_json:
            for one, _, _ in found:
                click.echo(json.dumps(view.flows_document(one)))
        elif found:
            view.show_flows([(one, now) for one, now, _ in found])
        for one, _, complaints in found:
            for words in complaints:
                view.say(one.source, words)
            if not one.complete:
                view.say(one.source, "there are more flows than these; raise --limit")
        return HOLDS if any(complaints for _, _, complaints in found) else 0

    raise SystemExit(asyncio.run(_of_each(sources, timeout, ask, tell)))


# --- Following ------------------------------------------------------------------------------------


async def until_stopped(work: Coroutine[Any, Any, None]) -> None:
    """Run until it ends or this process is told to."""
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
        await task
    except asyncio.CancelledError:
        if not stopped:
            raise


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
@_TIMEOUT
@_JSON
def events(
    sources: Sources,
    after: int | None,
    new: bool,
    follow: bool,
    every: int,
    patience: int | None,
    timeout: int,
    as_json: bool,
) -> None:
    """Show what happened to canisters' flows, oldest first.

    What is missing is told too: events that the bounded history has lost, a reinstalled canister, a
    network that was away.
    """
    if new and after is not None:
        raise click.UsageError("--new and --after exclude each other")

    codes = [0]  # of the sources that ended; whoever ends the command is told these

    async def of_one(one: Watch, several: bool) -> None:
        try:
            async with _in_time(None if follow or new else timeout), one:
                begin: int | FlowEvent = after or 0
                if new:
                    async with _in_time(timeout):
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
            codes.append(view.complain(one.name, error))

    def _tell(one: Watch, seen: Seen, several: bool) -> None:
        if as_json:
            click.echo(json.dumps(view.event_document(one, seen)))
        elif isinstance(seen, FlowEvent):
            click.echo(f"{view.shown(one.name)} {seen}" if several else str(seen))
        else:
            view.say(one.name, str(seen))

    async def run() -> None:
        async with sources.opened() as watches:
            if not as_json:
                view.say_trust(one.trust for one in watches if one.kind == "canister")
            await together(of_one(one, len(watches) > 1) for one in watches)

    asyncio.run(until_stopped(run()))
    raise SystemExit(max(codes))


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
@click.option("--json", "_as_json", is_flag=True, help="Print JSON, with or without it.")
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

    async def run() -> None:
        async with sources.opened() as watches:
            exporter = Exporter(watches, floor=floor / 1e9, timeout=timeout / 1e9, most_peers=peers)
            async with exporter.serving(*listen) as url:
                click.echo(json.dumps({"url": url}))
                await asyncio.Event().wait()

    asyncio.run(until_stopped(run()))
