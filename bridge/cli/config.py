"""``ic-bridge config``, and how every command's options become settings.

A setting is named as its option is: ``--state-dir`` of ``ic-bridge replica start`` is ``state-dir``
in the table ``[replica.start]``, and the variable ``IC_BRIDGE_REPLICA_START_STATE_DIR``.
"""

import json
from collections.abc import Iterator
from typing import Any

import click

from bridge.config import SHARED, Configuration, Setting, unknown_name, variable
from bridge.errors import UsageError


def _options(command: click.Command) -> dict[str, click.Option]:
    """A command's options by the name of their setting."""
    return {
        next(text for text in option.opts if text.startswith("--"))[2:].replace("-", "_"): option
        for option in command.params
        if isinstance(option, click.Option)
        and not option.is_eager
        and any(text.startswith("--") for text in option.opts)
    }


def _below(command: click.Command, ctx: click.Context) -> dict[str, click.Command]:
    """The commands below one, by the name of their table."""
    if not isinstance(command, click.Group):
        return {}
    found = {name: command.get_command(ctx, name) for name in command.list_commands(ctx)}
    return {name.replace("-", "_"): child for name, child in found.items() if child is not None}


def adopt(
    configuration: Configuration, command: click.Command, ctx: click.Context, path: tuple[str, ...]
) -> dict[str, Any]:
    """Let a command, and those below it, take their settings.

    Args:
        configuration: The files.
        command: The command; its options learn their variables.
        ctx: Its parent's context.
        path: Its name, from the top.

    Returns:
        The values that the files give, as click's ``default_map``.

    Raises:
        UsageError: If a file names no option, or gives a value that is not of its type.
    """
    inner = click.Context(command, parent=ctx, info_name=path[-1])
    options, below = _options(command), _below(command, inner)
    found = configuration.get(*path)
    if found is not None and not isinstance(found.value, dict):
        raise UsageError(
            f"{found.origin}: {'.'.join(path)} is a table, not {found.value!r}",
            hint=f"write its settings below [{'.'.join(path)}]",
        )
    for name in configuration.names(*path):
        if name not in options and name not in below:
            origin = configuration.names(*path)[name]
            raise unknown_name(name, [*below, *options], f"{origin}: [{'.'.join(path)}]")
    values: dict[str, Any] = {}
    for name, option in options.items():
        option.envvar = [variable(*path, name), *([variable(name)] if name in SHARED else ())]
        setting = _from_files(configuration, option, inner, (*path, name))
        if setting is not None:
            values[str(option.name)] = setting.value
    for name, child in below.items():
        values[str(child.name)] = adopt(configuration, child, inner, (*path, name))
    return values


def variables(command: click.Command, ctx: click.Context, path: tuple[str, ...]) -> set[str]:
    """The variables that a command, and those below it, read; arguments as for `adopt`."""
    inner = click.Context(command, parent=ctx, info_name=path[-1])
    found = {variable(*path, name) for name in _options(command)}
    for name, child in _below(command, inner).items():
        found |= variables(child, inner, (*path, name))
    return found


def _from_files(
    configuration: Configuration, option: click.Option, ctx: click.Context, path: tuple[str, ...]
) -> Setting | None:
    found = configuration.get(*path)
    if found is not None:
        return _checked(option, ctx, found, f"{found.origin}: {'.'.join(path)}")
    if path[-1] not in SHARED or configuration.get(path[-1]) is None:
        return None
    shared = configuration.from_files(path[-1])
    return _checked(option, ctx, shared, f"{shared.origin}: {path[-1]}")


def _checked(option: click.Option, ctx: click.Context, setting: Setting, place: str) -> Setting:
    try:
        return Setting(option.type_cast_value(ctx, setting.value), setting.origin)
    except click.BadParameter as error:
        raise UsageError(f"{place}: {error.message}", hint=option.help) from None


def _settings(
    configuration: Configuration, command: click.Command, ctx: click.Context, path: tuple[str, ...]
) -> Iterator[tuple[str, Setting]]:
    for name, child in _below(command, ctx).items():
        if not child.hidden:
            below = click.Context(child, parent=ctx, info_name=name)
            yield from _settings(configuration, child, below, (*path, name))
    for name, option in _options(command).items():
        if not option.hidden:
            yield ".".join([*path, name]), _effective(configuration, option, ctx, (*path, name))


def _effective(
    configuration: Configuration, option: click.Option, ctx: click.Context, path: tuple[str, ...]
) -> Setting:
    told = option.value_from_envvar(ctx)
    if told is not None:
        names = [variable(*path), variable(path[-1])]
        name = next(name for name in names if Configuration.in_environment(name))
        return _checked(option, ctx, Setting(told, name), name)
    found = _from_files(configuration, option, ctx, path)
    if found is not None:
        return found
    default = option.to_info_dict()["default"]
    return Setting(default() if callable(default) else default, "default")


@click.group()
def config() -> None:
    """Which settings hold, and where each comes from."""


@config.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object: name to value and origin.")
@click.pass_context
def show(ctx: click.Context, as_json: bool) -> None:
    """Show every setting with its value and origin.

    A setting is taken from the first that has it: an option, a variable IC_BRIDGE_*, the project's
    bridge.toml, the user's config.toml, the default.
    """
    root = ctx.find_root()
    configuration = root.obj or Configuration()
    rows: dict[str, Setting] = {name: configuration.shared(name) for name in SHARED}
    rows.update(_settings(configuration, root.command, root, ()))
    if as_json:
        told = {
            name: {"value": setting.value, "origin": setting.origin}
            for name, setting in rows.items()
        }
        click.echo(json.dumps(told, indent=2, default=str))
        return
    names = max(len(name) for name in rows)
    texts = {name: _text(setting.value) for name, setting in rows.items()}
    values = min(40, max(len(text) for text in texts.values()))
    for name, setting in rows.items():
        click.echo(f"{name:<{names}}  {texts[name]:<{values}}  {setting.origin}")


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(value, default=str)
