"""Types of the reference canisters, read from their contracts in ``candid/``."""

from collections.abc import Mapping
from functools import cache

from bridge import candid, contracts


@cache
def contract_interface(contract: str) -> candid.Interface:
    """One contract, with the types that it takes from others."""
    return candid.parse_did(
        contracts.interface(contract),
        loader=lambda file: contracts.interface(file.removesuffix(".did")),
    )


def contract_method(contract: str, method: str) -> candid.Func:
    """The type of one method of one contract."""
    return contract_methods(contract)[method]


def contract_methods(contract: str) -> Mapping[str, candid.Func]:
    """The types of all methods of one contract, by name."""
    service = contract_interface(contract).service
    assert service is not None, contract
    return service.methods


def install_types(contract: str) -> tuple[candid.Type, ...]:
    """The types of a contract's install argument."""
    init_args = contract_interface(contract).init_args
    assert init_args is not None, contract
    return init_args
