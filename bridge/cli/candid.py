"""``ic-bridge candid``: encode, decode and compare Candid from the command line.

Values and messages are taken from the arguments or from standard input. A message is hexadecimal or
raw; which of the two, its first bytes tell.
"""

import json
import math
import random as chances
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from bridge import candid as c
from bridge.errors import UsageError

_INTERFACE = click.option(
    "-d",
    "--interface",
    "interface_path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A .did file whose types and methods may be named.",
)
_METHOD = click.option("-m", "--method", help="A method of the interface; its types are used.")
_TYPES = click.option("-t", "--types", "types_text", help='Types, such as "(nat, opt text)".')
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_FORMAT = click.option(
    "-f",
    "--format",
    "form",
    type=click.Choice(["hex", "raw", "blob"]),
    default="hex",
    show_default=True,
    help="How to print the message; blob is a Candid literal.",
)


@click.group()
def candid() -> None:
    """Candid: encode, decode, check, subtype, hash, random."""


def _read_interface(path: Path | None) -> c.Interface | None:
    if path is None:
        return None

    def load(name: str) -> str:
        return _text_of(path.parent / name)

    return c.parse_did(_text_of(path), loader=load, path=path.name)


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8 text") from None


def _standard_input() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError:
        raise UsageError("standard input is not UTF-8 text") from None


def _types(
    interface: c.Interface | None, method: str | None, types_text: str | None, *, results: bool
) -> list[c.Type] | None:
    """The types asked for, by method or as text; None if neither is given."""
    if method is not None and types_text is not None:
        raise UsageError("give either --method or --types, not both")
    if types_text is not None:
        text = types_text.strip()
        if not text.startswith("("):
            text = f"({text})"
        return c.parse_types(text, interface)
    if method is None:
        return None
    if interface is None or interface.service is None:
        raise UsageError(
            "--method needs an interface with a service", hint="give one with --interface"
        )
    methods = interface.service.methods
    if method not in methods:
        raise UsageError(
            f"the service has no method {method!r}",
            hint=f"it has {', '.join(sorted(methods)) or 'none'}",
        )
    return list(methods[method].results if results else methods[method].args)


def _message(given: str | None) -> bytes:
    """The message: an argument in hexadecimal, or standard input in either form."""
    data = sys.stdin.buffer.read() if given in (None, "-") else str(given).encode()
    if data.startswith(b"DIDL"):
        return data
    text = data.decode("ascii", "replace")
    digits = "".join(text.split()).removeprefix("0x")
    try:
        return bytes.fromhex(digits)
    except ValueError:
        raise UsageError(
            "the message is neither hexadecimal nor raw Candid, which begins with DIDL"
        ) from None


def _print_message(data: bytes, form: str, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"hex": data.hex()}))
    elif form == "raw":
        sys.stdout.buffer.write(data)
    elif form == "blob":
        click.echo(c.values_text([data], [c.Blob])[1:-1])
    else:
        click.echo(data.hex())


def _json(value: object) -> str:
    """As JSON, which is written and made ready by calls within calls."""
    try:
        return json.dumps(_plain(value), ensure_ascii=False)
    except RecursionError:
        raise UsageError("the values are nested too deeply to be printed") from None


def _plain(value: Any) -> Any:
    """A value as JSON has it: principals as text, bytes as hexadecimal, a case as one pair."""
    match value:
        case c.Case():
            return {str(value.label): _plain(value.value)}
        case c.Some():
            return {"some": _plain(value.value)}
        case c.FuncRef():
            return {"service": str(value.service), "method": value.method}
        case c.ServiceRef():
            return str(value.service)
        case c.Principal():
            return str(value)
        case bytes():
            return value.hex()
        case dict():
            return {str(key): _plain(part) for key, part in value.items()}
        case list() | tuple():
            return [_plain(part) for part in value]
        case float() if not math.isfinite(value):
            return str(value)
        case _:
            return value


@candid.command()
@click.argument("values", required=False)
@_INTERFACE
@_METHOD
@_TYPES
@_FORMAT
@_JSON
def encode(
    values: str | None,
    interface_path: Path | None,
    method: str | None,
    types_text: str | None,
    form: str,
    *,
    as_json: bool,
) -> None:
    """Encode VALUES, such as '(5, opt "x")'; from standard input if left out or -.

    Without types they are inferred: a number is an int or float64 unless it says otherwise, as in
    '(5 : nat)'.
    """
    interface = _read_interface(interface_path)
    text = _standard_input() if values in (None, "-") else str(values)
    types = _types(interface, method, types_text, results=False)
    if types is None:
        types, found = c.infer_values(text, interface=interface)
    else:
        found = c.parse_values(text, types, interface=interface)
    _print_message(c.encode(types, found), form, as_json=as_json)


@candid.command()
@click.argument("message", required=False)
@_INTERFACE
@_METHOD
@_TYPES
@click.option("--args", "as_args", is_flag=True, help="Use the method's arguments, not results.")
@_JSON
def decode(
    message: str | None,
    interface_path: Path | None,
    method: str | None,
    types_text: str | None,
    *,
    as_args: bool,
    as_json: bool,
) -> None:
    """Decode MESSAGE, hexadecimal; from standard input, raw or hexadecimal, if left out or -.

    Without types it is read as the types that it says itself; the interface then gives names to
    its labels.
    """
    interface = _read_interface(interface_path)
    data = _message(message)
    types = _types(interface, method, types_text, results=not as_args)
    if types is None:
        names = interface.names() if interface is not None else ()
        types = c.message_types(data, names=names)
        values = c.decode_untyped(data, names=names)
    else:
        values = c.decode(types, data)
    if as_json:
        shown = [c.type_text(one) for one in types]
        click.echo(_json({"types": shown, "values": values}))
    else:
        click.echo(c.values_text(values, types))


def _report(
    faults: Sequence[object], losses: Sequence[object] = (), *, as_json: bool, key: str
) -> None:
    """Say yes or no, why not, and what to be careful of; leave with 1 for no."""
    if as_json:
        found = {"faults": [str(one) for one in faults], "warnings": [str(one) for one in losses]}
        click.echo(json.dumps({key: not faults, **found}))
    else:
        for fault in faults:
            click.echo(str(fault))
        for loss in losses:
            click.echo(f"warning: {loss}", err=True)
    if faults:
        sys.exit(1)


@candid.command()
@click.argument("new", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("old", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--strict", is_flag=True, help="Ask for equal services, not for compatible ones.")
@_JSON
def check(new: Path, old: Path | None, *, strict: bool, as_json: bool) -> None:
    """Check the .did file NEW; with OLD, whether it can replace that without breaking clients.

    Prints each thing that would break, and leaves with 1 if there is any; warns of values that
    clients would read as null.
    """
    interface = _read_interface(new)
    assert interface is not None
    if old is None:
        _report([], as_json=as_json, key="valid")
        return
    before = _read_interface(old)
    assert before is not None
    faults: list[object] = list(c.upgrade_faults(interface, before))
    if strict and not faults and interface.service != before.service:
        faults.append("the services are compatible, but not equal")
    losses = c.upgrade_losses(interface, before)
    _report(faults, losses, as_json=as_json, key="compatible")


@candid.command()
@click.argument("left")
@click.argument("right")
@_INTERFACE
@_JSON
def subtype(left: str, right: str, interface_path: Path | None, *, as_json: bool) -> None:
    """Whether the type LEFT is a subtype of RIGHT; why not, and leave with 1, if it is none."""
    interface = _read_interface(interface_path)
    types = [c.parse_type(text, interface) for text in (left, right)]
    faults = c.subtype_faults(types[0], types[1])
    losses = c.subtype_losses(types[0], types[1])
    _report(faults, losses, as_json=as_json, key="subtype")


@candid.command(name="hash")
@click.argument("names", nargs=-1, required=True)
@_JSON
def hash_(names: tuple[str, ...], *, as_json: bool) -> None:
    """Print the number that each of NAMES has as a label."""
    if as_json:
        click.echo(json.dumps({name: c.field_id(name) for name in names}, ensure_ascii=False))
        return
    for name in names:
        click.echo(c.field_id(name))


@candid.command()
@_INTERFACE
@_METHOD
@_TYPES
@click.option("--results", "as_results", is_flag=True, help="Use the method's results.")
@click.option("--seed", type=int, help="Give the same values again; without, any.")
@click.option("--depth", type=click.IntRange(0, 40), default=5, show_default=True)
@click.option("--size", type=click.IntRange(0, 1000), default=6, show_default=True)
@_JSON
def random(
    interface_path: Path | None,
    method: str | None,
    types_text: str | None,
    seed: int | None,
    depth: int,
    size: int,
    *,
    as_results: bool,
    as_json: bool,
) -> None:
    """Print random values of the types of a method, or of --types."""
    interface = _read_interface(interface_path)
    types = _types(interface, method, types_text, results=as_results)
    if types is None:
        raise UsageError("random values of what?", hint="give --types, or --interface and --method")
    if seed is None:
        seed = chances.SystemRandom().getrandbits(32)
    source = chances.Random(seed)  # noqa: S311 - values to try things with, not secrets
    values = c.random_values(types, source, depth=depth, size=size)
    text = c.values_text(values, types)
    if as_json:
        data = c.encode(types, values)
        click.echo(json.dumps({"seed": seed, "text": text, "hex": data.hex()}, ensure_ascii=False))
    else:
        click.echo(text)
