"""What embedded replicas run on is an extra; commands that need it say so before anything else."""

from bridge.errors import ReplicaError


def check_engine() -> None:
    """See that an embedded replica can be run here.

    Raises:
        ReplicaError: If the extra is not installed.
    """
    try:
        import wasmtime  # noqa: F401, PLC0415 - an extra; what the replica runs on
    except ModuleNotFoundError as error:
        raise ReplicaError(
            f"the embedded replica needs {error.name}, which is not installed",
            hint="pip install 'ic-bridge[replica]'",
        ) from error
