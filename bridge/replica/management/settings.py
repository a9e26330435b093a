"""Canister settings: from Candid values with checks, and back."""

import dataclasses
from typing import Any, Final

from bridge.candid import Case
from bridge.principal import Principal
from bridge.replica.state.canister import Settings, Visibility
from bridge.replica.state.messages import Reject, RejectCode

_MAX_CONTROLLERS: Final = 10
_MAX_VIEWERS: Final = 10
_MAX_VARIABLES: Final = 20
_MAX_VARIABLE: Final = 128


class SettingsError(Exception):
    """A setting is out of range; ``reject`` says which."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.reject = Reject(RejectCode.CANISTER_ERROR, text, "IC0504")


_RANGES: Final = {
    "compute_allocation": 100,
    "memory_allocation": 2**64 - 1,
    "freezing_threshold": 2**64 - 1,
    "reserved_cycles_limit": 2**128 - 1,
    "minimum_incoming_canister_call_cycles": 2**128 - 1,
    "log_memory_limit": 2 * 1024 * 1024,
    "wasm_memory_limit": 2**48,
    "wasm_memory_threshold": 2**48,
}
_MIN_LOG_LIMIT: Final = 4096
_VISIBILITIES: Final = ("log_visibility", "snapshot_visibility", "status_visibility")


def apply_settings(before: Settings, wanted: dict[str, Any]) -> Settings:
    """The settings with those changed that are given.

    Raises:
        SettingsError: If one is out of range.
    """
    changes: dict[str, Any] = {}
    controllers = wanted["controllers"]
    if controllers is not None:
        unique = tuple(dict.fromkeys(controllers))
        if len(unique) > _MAX_CONTROLLERS:
            raise SettingsError(
                f"Invalid settings: {len(unique)} controllers, the limit is {_MAX_CONTROLLERS}"
            )
        changes["controllers"] = unique
    for name, most in _RANGES.items():
        value = wanted[name]
        if value is None:
            continue
        if value > most:
            raise SettingsError(f"Invalid settings: {name} is {value}, the limit is {most}")
        changes[name] = value
    if 0 < changes.get("log_memory_limit", 0) < _MIN_LOG_LIMIT:
        raise SettingsError(
            f"Invalid settings: log_memory_limit is {changes['log_memory_limit']}; it is 0, or "
            f"from {_MIN_LOG_LIMIT} to {_RANGES['log_memory_limit']}"
        )
    for name in _VISIBILITIES:
        if wanted[name] is not None:
            changes[name] = _visibility(name, wanted[name])
    variables = wanted["environment_variables"]
    if variables is not None:
        changes["environment_variables"] = _variables(variables)
    return dataclasses.replace(before, **changes)


def _visibility(name: str, value: Case) -> Visibility:
    if value.label != "allowed_viewers":
        return "public" if value.label == "public" else "controllers"
    viewers = tuple(value.value)
    if len(viewers) > _MAX_VIEWERS:
        raise SettingsError(
            f"Invalid settings: {name} has {len(viewers)} viewers, the limit is {_MAX_VIEWERS}"
        )
    return viewers


def _variables(values: list[dict[str, str]]) -> tuple[tuple[str, str], ...]:
    pairs = tuple((entry["name"], entry["value"]) for entry in values)
    if len(pairs) > _MAX_VARIABLES:
        raise SettingsError(
            f"Invalid settings: {len(pairs)} environment variables, the limit is {_MAX_VARIABLES}"
        )
    if len({name for name, _ in pairs}) != len(pairs):
        raise SettingsError("Invalid settings: an environment variable is given twice")
    for name, value in pairs:
        if max(len(name.encode()), len(value.encode())) > _MAX_VARIABLE:
            raise SettingsError(
                f"Invalid settings: the environment variable {name[:40]!r} or its value is longer "
                f"than {_MAX_VARIABLE} bytes"
            )
    return pairs


def initial_settings(wanted: dict[str, Any] | None, sender: Principal) -> Settings:
    """A new canister's settings; its creator controls it unless something else is said.

    Raises:
        SettingsError: If one is out of range.
    """
    default = Settings(controllers=(sender,))
    return default if wanted is None else apply_settings(default, wanted)


def definite(settings: Settings) -> dict[str, Any]:
    """The settings as the Candid value that ``canister_status`` tells."""
    visibilities = {
        name: Case(value) if isinstance(value, str) else Case("allowed_viewers", list(value))
        for name in _VISIBILITIES
        for value in (getattr(settings, name),)
    }
    return {
        **visibilities,
        "minimum_incoming_canister_call_cycles": settings.minimum_incoming_canister_call_cycles,
        "log_memory_limit": settings.log_memory_limit,
        "controllers": list(settings.controllers),
        "compute_allocation": settings.compute_allocation,
        "memory_allocation": settings.memory_allocation,
        "freezing_threshold": settings.freezing_threshold,
        "reserved_cycles_limit": settings.reserved_cycles_limit,
        "wasm_memory_limit": settings.wasm_memory_limit,
        "wasm_memory_threshold": settings.wasm_memory_threshold,
        "environment_variables": [
            {"name": name, "value": value} for name, value in settings.environment_variables
        ],
    }
