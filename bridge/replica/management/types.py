"""The Candid types of the management canister's methods (interface specification, ``ic.did``)."""

from dataclasses import dataclass
from typing import Any, Final

from bridge import candid
from bridge.candid import (
    Blob,
    Bool,
    Codec,
    Float32,
    Float64,
    Int32,
    Int64,
    Nat,
    Nat64,
    Null,
    Opt,
    PrincipalType,
    Record,
    Reserved,
    Text,
    Variant,
    Vec,
)

_VISIBILITY: Final = Variant(
    {"controllers": Null, "public": Null, "allowed_viewers": Vec(PrincipalType)}
)
_VARIABLES: Final = Vec(Record({"name": Text, "value": Text}))
_SETTINGS: Final = Record(
    {
        "controllers": Opt(Vec(PrincipalType)),
        "compute_allocation": Opt(Nat),
        "memory_allocation": Opt(Nat),
        "freezing_threshold": Opt(Nat),
        "reserved_cycles_limit": Opt(Nat),
        "minimum_incoming_canister_call_cycles": Opt(Nat),
        "log_visibility": Opt(_VISIBILITY),
        "log_memory_limit": Opt(Nat),
        "snapshot_visibility": Opt(_VISIBILITY),
        "status_visibility": Opt(_VISIBILITY),
        "wasm_memory_limit": Opt(Nat),
        "wasm_memory_threshold": Opt(Nat),
        "environment_variables": Opt(_VARIABLES),
    }
)
_DEFINITE_SETTINGS: Final = Record(
    {
        "controllers": Vec(PrincipalType),
        "compute_allocation": Nat,
        "memory_allocation": Nat,
        "freezing_threshold": Nat,
        "reserved_cycles_limit": Nat,
        "minimum_incoming_canister_call_cycles": Nat,
        "log_visibility": _VISIBILITY,
        "log_memory_limit": Nat,
        "snapshot_visibility": _VISIBILITY,
        "status_visibility": _VISIBILITY,
        "wasm_memory_limit": Nat,
        "wasm_memory_threshold": Nat,
        "environment_variables": _VARIABLES,
    }
)
_MODE: Final = Variant(
    {
        "install": Null,
        "reinstall": Null,
        "upgrade": Opt(
            Record(
                {
                    "skip_pre_upgrade": Opt(Bool),
                    "wasm_memory_persistence": Opt(Variant({"keep": Null, "replace": Null})),
                }
            )
        ),
    }
)
_CHANGE: Final = Record(
    {
        "timestamp_nanos": Nat64,
        "canister_version": Nat64,
        "origin": Variant(
            {
                "from_user": Record({"user_id": PrincipalType}),
                "from_canister": Record(
                    {"canister_id": PrincipalType, "canister_version": Opt(Nat64)}
                ),
            }
        ),
        "details": Variant(
            {
                "creation": Record(
                    {
                        "controllers": Vec(PrincipalType),
                        "environment_variables_hash": Opt(Blob),
                    }
                ),
                "code_uninstall": Null,
                "code_deployment": Record(
                    {
                        "mode": Variant({"install": Null, "reinstall": Null, "upgrade": Null}),
                        "module_hash": Blob,
                    }
                ),
                "load_snapshot": Record(
                    {
                        "from_canister_id": Opt(PrincipalType),
                        "canister_version": Nat64,
                        "snapshot_id": Blob,
                        "taken_at_timestamp": Nat64,
                        "source": Variant(
                            {"taken_from_canister": Reserved, "metadata_upload": Reserved}
                        ),
                    }
                ),
                "controllers_change": Record({"controllers": Vec(PrincipalType)}),
            }
        ),
    }
)
_ID: Final = Record({"canister_id": PrincipalType})
_LOG_RANGE: Final = Record({"start": Nat64, "end": Nat64})
_CHUNK_HASH: Final = Record({"hash": Blob})
_SENDER_VERSION: Final = {"sender_canister_version": Opt(Nat64)}
_SNAPSHOT: Final = Record({"id": Blob, "taken_at_timestamp": Nat64, "total_size": Nat64})
_ONE_SNAPSHOT: Final = Record({"canister_id": PrincipalType, "snapshot_id": Blob})
_GLOBALS: Final = Vec(
    Variant({"i32": Int32, "i64": Int64, "f32": Float32, "f64": Float64, "v128": Nat})
)
_SNAPSHOT_STATE: Final = {
    "wasm_module_size": Nat64,
    "globals": _GLOBALS,
    "wasm_memory_size": Nat64,
    "stable_memory_size": Nat64,
    "certified_data": Blob,
    "global_timer": Opt(Variant({"inactive": Null, "active": Nat64})),
    "on_low_wasm_memory_hook_status": Opt(
        Variant({"condition_not_satisfied": Null, "ready": Null, "executed": Null})
    ),
}
_PART: Final = Record({"offset": Nat64, "size": Nat64})
_PLACE: Final = Record({"offset": Nat64})
_QUERY_STATS: Final = Record(
    {
        "num_calls_total": Nat,
        "num_instructions_total": Nat,
        "request_payload_bytes_total": Nat,
        "response_payload_bytes_total": Nat,
    }
)
_MEMORY_METRICS: Final = Record(
    {
        "wasm_memory_size": Nat,
        "stable_memory_size": Nat,
        "global_memory_size": Nat,
        "wasm_binary_size": Nat,
        "custom_sections_size": Nat,
        "canister_history_size": Nat,
        "wasm_chunk_store_size": Nat,
        "snapshots_size": Nat,
        "log_memory_store_size": Nat,
    }
)


@dataclass(frozen=True, slots=True)
class Signature:
    """One method's argument and result types; ``None`` where there is none."""

    argument: Codec | None
    result: Codec | None

    def decode(self, data: bytes) -> Any:
        """The argument's value.

        Raises:
            CandidError: If the bytes are not of the argument's type.
        """
        if self.argument is None:
            candid.decode([], data)
            return None
        (value,) = self.argument.decode(data)
        return value

    def encode(self, value: Any) -> bytes:
        """The result's bytes."""
        return candid.encode([], []) if self.result is None else self.result.encode(value)


def _method(argument: Any, result: Any = None) -> Signature:
    return Signature(
        None if argument is None else Codec([argument]), None if result is None else Codec([result])
    )


SIGNATURES: Final[dict[str, Signature]] = {
    "create_canister": _method(Record({"settings": Opt(_SETTINGS), **_SENDER_VERSION}), _ID),
    "update_settings": _method(
        Record({"canister_id": PrincipalType, "settings": _SETTINGS, **_SENDER_VERSION})
    ),
    "upload_chunk": _method(Record({"canister_id": PrincipalType, "chunk": Blob}), _CHUNK_HASH),
    "clear_chunk_store": _method(_ID),
    "stored_chunks": _method(_ID, Vec(_CHUNK_HASH)),
    "install_code": _method(
        Record(
            {
                "mode": _MODE,
                "canister_id": PrincipalType,
                "wasm_module": Blob,
                "arg": Blob,
                **_SENDER_VERSION,
            }
        )
    ),
    "install_chunked_code": _method(
        Record(
            {
                "mode": _MODE,
                "target_canister": PrincipalType,
                "store_canister": Opt(PrincipalType),
                "chunk_hashes_list": Vec(_CHUNK_HASH),
                "wasm_module_hash": Blob,
                "arg": Blob,
                **_SENDER_VERSION,
            }
        )
    ),
    "uninstall_code": _method(Record({"canister_id": PrincipalType, **_SENDER_VERSION})),
    "start_canister": _method(_ID),
    "stop_canister": _method(_ID),
    "canister_status": _method(
        _ID,
        Record(
            {
                "status": Variant({"running": Null, "stopping": Null, "stopped": Null}),
                "ready_for_migration": Bool,
                "version": Nat64,
                "settings": _DEFINITE_SETTINGS,
                "module_hash": Opt(Blob),
                "memory_size": Nat,
                "memory_metrics": _MEMORY_METRICS,
                "cycles": Nat,
                "reserved_cycles": Nat,
                "idle_cycles_burned_per_day": Nat,
                "query_stats": _QUERY_STATS,
            }
        ),
    ),
    "canister_info": _method(
        Record({"canister_id": PrincipalType, "num_requested_changes": Opt(Nat64)}),
        Record(
            {
                "total_num_changes": Nat64,
                "recent_changes": Vec(_CHANGE),
                "module_hash": Opt(Blob),
                "controllers": Vec(PrincipalType),
            }
        ),
    ),
    "canister_metrics": _method(
        _ID,
        Record(
            {
                "cycles_consumed": Record(
                    dict.fromkeys(
                        (
                            "memory",
                            "compute_allocation",
                            "ingress_induction",
                            "instructions",
                            "request_and_response_transmission",
                            "uninstall",
                            "canister_creation",
                            "http_outcalls",
                            "burned_cycles",
                        ),
                        Nat,
                    )
                )
            }
        ),
    ),
    "canister_metadata": _method(
        Record({"canister_id": PrincipalType, "name": Text}), Record({"value": Blob})
    ),
    "delete_canister": _method(_ID),
    "deposit_cycles": _method(_ID),
    "raw_rand": _method(None, Blob),
    "take_canister_snapshot": _method(
        Record(
            {
                "canister_id": PrincipalType,
                "replace_snapshot": Opt(Blob),
                "uninstall_code": Opt(Bool),
                **_SENDER_VERSION,
            }
        ),
        _SNAPSHOT,
    ),
    "load_canister_snapshot": _method(
        Record({"canister_id": PrincipalType, "snapshot_id": Blob, **_SENDER_VERSION})
    ),
    "list_canister_snapshots": _method(_ID, Vec(_SNAPSHOT)),
    "delete_canister_snapshot": _method(_ONE_SNAPSHOT),
    "read_canister_snapshot_metadata": _method(
        _ONE_SNAPSHOT,
        Record(
            {
                "source": Variant({"taken_from_canister": Reserved, "metadata_upload": Reserved}),
                "taken_at_timestamp": Nat64,
                "wasm_chunk_store": Vec(_CHUNK_HASH),
                "canister_version": Nat64,
                **_SNAPSHOT_STATE,
            }
        ),
    ),
    "read_canister_snapshot_data": _method(
        Record(
            {
                "canister_id": PrincipalType,
                "snapshot_id": Blob,
                "kind": Variant(
                    {
                        "wasm_module": _PART,
                        "wasm_memory": _PART,
                        "stable_memory": _PART,
                        "wasm_chunk": _CHUNK_HASH,
                    }
                ),
            }
        ),
        Record({"chunk": Blob}),
    ),
    "upload_canister_snapshot_metadata": _method(
        Record(
            {
                "canister_id": PrincipalType,
                "replace_snapshot": Opt(Blob),
                **_SNAPSHOT_STATE,
            }
        ),
        Record({"snapshot_id": Blob}),
    ),
    "upload_canister_snapshot_data": _method(
        Record(
            {
                "canister_id": PrincipalType,
                "snapshot_id": Blob,
                "kind": Variant(
                    {
                        "wasm_module": _PLACE,
                        "wasm_memory": _PLACE,
                        "stable_memory": _PLACE,
                        "wasm_chunk": Null,
                    }
                ),
                "chunk": Blob,
            }
        )
    ),
    "fetch_canister_logs": _method(
        Record(
            {
                "canister_id": PrincipalType,
                "filter": Opt(Variant({"by_idx": _LOG_RANGE, "by_timestamp_nanos": _LOG_RANGE})),
            }
        ),
        Record(
            {
                "canister_log_records": Vec(
                    Record({"idx": Nat64, "timestamp_nanos": Nat64, "content": Blob})
                )
            }
        ),
    ),
    "provisional_create_canister_with_cycles": _method(
        Record(
            {
                "amount": Opt(Nat),
                "settings": Opt(_SETTINGS),
                "specified_id": Opt(PrincipalType),
                **_SENDER_VERSION,
            }
        ),
        _ID,
    ),
    "provisional_top_up_canister": _method(Record({"canister_id": PrincipalType, "amount": Nat})),
}

# Methods of the specification that this replica does not have.
UNSUPPORTED: Final = frozenset(
    {
        "http_request", "flexible_http_request", "ecdsa_public_key", "sign_with_ecdsa",
        "schnorr_public_key", "sign_with_schnorr", "vetkd_public_key", "vetkd_derive_key",
        "bitcoin_get_balance", "bitcoin_get_utxos", "bitcoin_send_transaction",
        "bitcoin_get_current_fee_percentiles", "bitcoin_get_block_headers",
        "node_metrics_history", "subnet_metrics", "subnet_info", "list_canisters",
        "rename_canister",
    }
)  # fmt: skip
