"""``ic-bridge replica``: the embedded replica from the command line."""

import asyncio
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from bridge.cli import instances
from bridge.cli.engine import check_engine
from bridge.cli.instances import Instance
from bridge.errors import ReplicaError, StateDirectoryError
from bridge.principal import Principal


class _Port(click.IntRange):
    name = "port (a whole number)"


_JSON: Final = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_WHICH_PORT: Final = click.option(
    "--port", type=_Port(1, 65535), metavar="PORT", help="The replica at this port."
)
_WHICH_DIRECTORY: Final = click.option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="The replica of this state directory.",
)
_LOG_OPTION: Final = "IC_BRIDGE_REPLICA_LOG"
_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 30.0
_ASK_SECONDS: Final = 5.0
_FOLLOW_SECONDS: Final = 0.2
_LOG_NAME: Final = "replica.log"
_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def _moment(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    """A time, given as nanoseconds since 1970 or in ISO 8601, in nanoseconds since 1970."""
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return int(value)
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is no time: give nanoseconds since 1970, or a date such as "
            "2026-01-31T12:00:00Z"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    if since.days < 0:
        raise click.BadParameter(f"{value!r} is before 1970")
    return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1000


@click.group()
def replica() -> None:
    """An IC replica in one process, for development and tests."""


# --- start --------------------------------------------------------------------------------------


@replica.command()
@click.option(
    "--port",
    type=_Port(0, 65535),
    metavar="PORT",
    default=0,
    help="Loopback port; 0 picks a free one.",
)
@click.option("--admin", is_flag=True, help="Switch the admin interface on (faults, message log).")
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep the subnet in this directory, and find it there again.",
)
@click.option("--background", is_flag=True, help="Serve as a process of its own, and return.")
@click.option("--fees", is_flag=True, help="Let memory and compute allocation cost cycles.")
@click.option(
    "--time",
    "moment",
    callback=_moment,
    metavar="TIME",
    help="Let time stand still at this moment: nanoseconds since 1970, or ISO 8601.",
)
@click.option(
    "--system-canisters/--no-system-canisters",
    default=True,
    show_default=True,
    help="The ICP ledger, cycles minting canister and cycles ledger that the icp command expects.",
)
@click.option(
    "--until-eof",
    is_flag=True,
    help="Stop when standard input ends, as it does when whoever holds the other end is gone.",
)
@click.option("--json", "_as_json", is_flag=True, help="Print JSON, with or without it.")
def start(background: bool, until_eof: bool, _as_json: bool, **options: Any) -> None:
    """Serve until interrupted. Prints one JSON line with url and root_key when it is ready."""
    if options["state_dir"] is not None:
        options["state_dir"] = options["state_dir"].resolve()
    if background:
        if until_eof:
            raise click.UsageError("--background and --until-eof exclude each other")
        _start_in_background(options)
    else:
        asyncio.run(_serve(until_eof=until_eof, **options))
        _leave()


def _leave() -> None:
    """End the process although canisters are still executed, which can take a minute.

    There is nobody any more to tell what comes of it, and the state directory is closed.
    """
    names = ("replica-query", "replica-rounds")
    if any(thread.name.startswith(names) for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


async def _serve(
    port: int,
    *,
    admin: bool,
    state_dir: Path | None,
    fees: bool,
    moment: int | None,
    system_canisters: bool,
    until_eof: bool,
) -> None:
    check_engine()
    from bridge.replica import Replica  # noqa: PLC0415 - wasmtime is an extra

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, stop.set)
    if until_eof:
        threading.Thread(
            target=_call_at_eof, args=(lambda: loop.call_soon_threadsafe(stop.set),), daemon=True
        ).start()
    if not until_eof:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    async with Replica(
        port=port,
        admin=admin,
        state_dir=state_dir,
        fees=fees,
        time=moment,
        system_canisters=system_canisters,
    ) as running:
        instance = Instance(
            pid=os.getpid(),
            url=running.url,
            port=int(running.url.rpartition(":")[2]),
            root_key=running.root_key.hex(),
            admin=admin,
            state_dir=None if state_dir is None else str(state_dir),
            log=os.environ.get(_LOG_OPTION),
            started=time.time(),
        )
        # Who holds the other end of standard input needs no record to find it.
        with contextlib.nullcontext() if until_eof else instances.noted(instance):
            click.echo(json.dumps(_announcement(instance)))
            if sys.stdout.isatty():
                click.echo("serving; Ctrl-C ends it", err=True)
            await _first_of(stop.wait(), running.failed.wait())


def _announcement(instance: Instance) -> dict[str, Any]:
    told: dict[str, Any] = {
        "url": instance.url,
        "root_key": instance.root_key,
        "admin": instance.admin,
    }
    if instance.state_dir is not None:
        told["state_dir"] = instance.state_dir
    return told


async def _first_of(*waits: Any) -> None:
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    _, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in rest:
        task.cancel()


def _call_at_eof(call: Callable[[], object]) -> None:
    """Block until standard input has ended."""
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    with contextlib.suppress(RuntimeError):  # the loop may have ended first
        call()


def _arguments(options: dict[str, Any]) -> list[str]:
    """The options as the other process is given them."""
    arguments = ["--port", str(options["port"])]
    if options["state_dir"] is not None:
        arguments += ["--state-dir", str(options["state_dir"])]
    if options["moment"] is not None:
        arguments += ["--time", str(options["moment"])]
    if not options["system_canisters"]:
        arguments.append("--no-system-canisters")
    arguments += [f"--{name}" for name in ("admin", "fees") if options[name]]
    return arguments


def _start_in_background(options: dict[str, Any]) -> None:
    """Start another process that serves, and print what it says when it does."""
    log, begins_at = _new_log(options["state_dir"])
    with log.open("ab") as stream:
        process = subprocess.Popen(  # noqa: S603 - this very program
            [sys.executable, "-m", "bridge.cli", "replica", "start", *_arguments(options)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stream,
            start_new_session=True,
            env={**os.environ, _LOG_OPTION: str(log)},
        )
    assert process.stdout is not None
    timer = threading.Timer(_START_SECONDS, process.kill)
    timer.start()
    try:
        line = process.stdout.readline()
    finally:
        timer.cancel()
        process.stdout.close()
    if line:
        click.echo(line.decode(), nl=False)
        # It goes on alone: it is not to be waited for, and that is no oversight.
        process.returncode = 0
        return
    process.wait()
    said = _last_words(log, begins_at)
    if options["state_dir"] is None:
        log.unlink(missing_ok=True)
    raise ReplicaError(
        said[0] if said else f"the replica did not serve within {_START_SECONDS:.0f} s",
        hint=said[1] if len(said) > 1 else None,
    )


def _new_log(state_dir: Path | None) -> tuple[Path, int]:
    """The file for what a replica in the background says, and how long it is already.

    It lies in the state directory, where it grows from start to start, or else beside the records.
    """
    if state_dir is None:
        running = {instance.log for instance in instances.running()}
        for old in instances.folder().glob("*.log"):
            if str(old) not in running and time.time() - old.stat().st_mtime > _START_SECONDS:
                old.unlink(missing_ok=True)
        log = instances.folder() / f"{os.getpid()}-{time.time_ns()}.log"
    else:
        try:
            state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StateDirectoryError(
                f"the state directory {state_dir} cannot be used: {error.strerror or error}",
                hint="name a directory of your own",
            ) from error
        log = state_dir / _LOG_NAME
    os.close(os.open(log, os.O_WRONLY | os.O_CREAT, 0o600))
    return log, log.stat().st_size


def _last_words(log: Path, begins_at: int) -> list[str]:
    """The error that a process ended with, and its hint."""
    said = log.read_bytes()[begins_at:].decode(errors="replace")
    lines = [line for line in said.splitlines() if line.strip()]
    for at, line in enumerate(lines):
        if line.startswith("ic-bridge: "):
            return [line.removeprefix("ic-bridge: "), *(part.strip() for part in lines[at + 1 :])]
    return lines[-1:]


# --- the others ---------------------------------------------------------------------------------


def _matching(port: int | None, state_dir: Path | None) -> list[Instance]:
    """The replicas that run and are meant; all of them if none is named."""
    where = None if state_dir is None else str(state_dir.resolve())
    return [
        instance
        for instance in instances.running()
        if port in (None, instance.port) and where in (None, instance.state_dir)
    ]


def _the_one(port: int | None, state_dir: Path | None) -> Instance | None:
    """The replica that is meant, if it runs.

    Raises:
        click.UsageError: If it could be one or another.
    """
    found = _matching(port, state_dir)
    if len(found) > 1:
        listed = ", ".join(f"--port {instance.port}" for instance in found)
        raise click.UsageError(f"{len(found)} replicas run; say which one: {listed}")
    return found[0] if found else None


def _none_runs(port: int | None, state_dir: Path | None) -> NoReturn:
    where = "" if port is None else f" at port {port}"
    where += "" if state_dir is None else f" with its state in {state_dir.resolve()}"
    others = ", ".join(instance.url for instance in instances.running())
    click.echo(f"no replica runs{where}" + (f"; running: {others}" if others else ""), err=True)
    sys.exit(1)


def _answers(instance: Instance) -> bool:
    """Whether it answers to who asks for its status."""
    connection = HTTPConnection("127.0.0.1", instance.port, timeout=_ASK_SECONDS)
    try:
        connection.request("GET", "/api/v2/status")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


@replica.command()
@_WHICH_PORT
@_WHICH_DIRECTORY
@_JSON
def status(port: int | None, state_dir: Path | None, as_json: bool) -> None:
    """Tell which replicas run. The exit code is 0 if one does, 1 if none."""
    found = [
        {**asdict(instance), "answers": _answers(instance)}
        for instance in _matching(port, state_dir)
    ]
    if as_json:
        click.echo(json.dumps({"running": bool(found), "replicas": found}))
        sys.exit(0 if found else 1)
    if not found:
        _none_runs(port, state_dir)
    for each in found:
        kept = f"state in {each['state_dir']}" if each["state_dir"] else "state in memory"
        health = "" if each["answers"] else ", does not answer"
        admin = ", admin interface on" if each["admin"] else ""
        click.echo(f"{each['url']}  process {each['pid']}, {kept}{admin}{health}")


@replica.command()
@_WHICH_PORT
@_WHICH_DIRECTORY
@click.option("--all", "every", is_flag=True, help="Stop all replicas that run.")
@_JSON
def stop(port: int | None, state_dir: Path | None, every: bool, as_json: bool) -> None:
    """Stop a replica, and wait until it has ended. The exit code is 1 if there is none."""
    if every:
        meant = _matching(port, state_dir)
    else:
        one = _the_one(port, state_dir)
        meant = [] if one is None else [one]
    stopped = []
    for instance in meant:
        if not instances.stop(instance, _STOP_SECONDS):
            raise ReplicaError(
                f"the replica at {instance.url}, process {instance.pid}, has not ended within "
                f"{_STOP_SECONDS:.0f} s",
                hint=f"end it with: kill -9 {instance.pid}",
            )
        if instance.log is not None and instance.state_dir is None:
            Path(instance.log).unlink(missing_ok=True)
        stopped.append(instance.url)
        click.echo(f"stopped {instance.url}", err=True)
    if as_json:
        click.echo(json.dumps({"stopped": stopped}))
    if not stopped:
        _none_runs(port, state_dir)


@replica.command()
@click.argument("canister", required=False)
@_WHICH_PORT
@_WHICH_DIRECTORY
@click.option("--follow", is_flag=True, help="Go on with what is yet to come.")
@_JSON
def logs(
    canister: str | None, port: int | None, state_dir: Path | None, follow: bool, as_json: bool
) -> None:
    """Show what a replica in the background said, or what a canister wrote to its log.

    A canister's log is read through the admin interface, which must be on.
    """
    if canister is not None:
        Principal.from_text(canister)  # a mistyped id is told before anybody is asked
    instance = _the_one(port, state_dir)
    kept = None if state_dir is None else state_dir / _LOG_NAME
    if instance is not None and canister is not None:
        lines = _canister_lines(instance, canister, follow)
    elif instance is not None:
        lines = _own_lines(instance, follow)
    elif canister is None and kept is not None and kept.is_file():
        lines = ({"text": line} for line in kept.read_text(errors="replace").splitlines())
    else:
        _none_runs(port, state_dir)
    empty = True
    for line in lines:
        click.echo(json.dumps(line) if as_json else line["text"])
        empty = False
    if empty:
        who = f"canister {canister}" if canister is not None else "the replica"
        click.echo(f"{who} has written nothing to its log", err=True)


def _own_lines(instance: Instance, follow: bool) -> Iterator[dict[str, Any]]:
    if instance.log is None:
        raise ReplicaError(
            f"the replica at {instance.url} serves in a terminal, and says there what it has to",
            hint="start it with --background to keep that in a file",
        )
    with Path(instance.log).open(errors="replace") as stream:
        while True:
            line = stream.readline()
            if line:
                yield {"text": line.rstrip("\n")}
            elif not follow or not _goes_on(instance):
                return


def _canister_lines(instance: Instance, canister: str, follow: bool) -> Iterator[dict[str, Any]]:
    after = 0
    while True:
        records = _ask_for_log(instance, canister, after)
        for record in records:
            after = record["index"] + 1
            content = bytes.fromhex(record["content"]).decode(errors="replace")
            moment = datetime.fromtimestamp(record["time"] / 1e9, tz=UTC)
            yield {
                **record,
                "text": f"[{record['index']}. {moment.isoformat(timespec='milliseconds')}] "
                f"{content}",
            }
        if not records and (not follow or not _goes_on(instance)):
            return


def _goes_on(instance: Instance) -> bool:
    """Wait a little; whether the replica still runs then."""
    time.sleep(_FOLLOW_SECONDS)
    return instance in instances.running()


def _ask_for_log(instance: Instance, canister: str, first: int) -> list[dict[str, Any]]:
    if not instance.admin:
        raise ReplicaError(
            f"the admin interface of the replica at {instance.url} is off, so it shows no "
            "canister's log",
            hint="start it with --admin, or ask as a controller: icp canister logs",
        )
    connection = HTTPConnection("127.0.0.1", instance.port, timeout=_ASK_SECONDS)
    try:
        connection.request("GET", f"/_admin/canister_log/{canister}?from={first}")
        response = connection.getresponse()
        body = response.read()
    except (OSError, HTTPException) as error:
        raise ReplicaError(f"the replica at {instance.url} cannot be reached: {error}") from error
    finally:
        connection.close()
    if response.status != 200:
        raise ReplicaError(body.decode(errors="replace").strip())
    records: list[dict[str, Any]] = json.loads(body)["records"]
    return records
