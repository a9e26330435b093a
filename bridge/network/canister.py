"""An installed canister, called by the names of its interface with Python values.

Only translates: types from the interface, calls through an agent. Knows nothing of installation.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from bridge import candid
from bridge.agent import Agent
from bridge.errors import UsageError
from bridge.principal import Principal


def _may_be_null(type_: candid.Type) -> bool:
    type_ = candid.resolve(type_)
    return isinstance(type_, candid.Opt) or type_ in (candid.Null, candid.Reserved)


def encode_arguments(types: Sequence[candid.Type], values: Sequence[Any]) -> bytes:
    """Encode values, with null for what is left out at the end where its type allows that.

    Raises:
        CandidError: If the values are too few, too many, or not of the types.
    """
    filled = list(values)
    while len(filled) < len(types) and _may_be_null(types[len(filled)]):
        filled.append(None)
    return candid.encode(list(types), filled)


class Canister:
    """One canister. Its methods are this object's: ``await canister.greet("world")``.

    An argument list is given as Python values (`bridge.candid` says which), trailing options may be
    left out, and the answer is a value: None where the method gives none, a tuple where it gives
    several. Methods of the names ``agent``, ``id``, ``interface``, ``call`` and ``as_agent`` are
    reached by `call`.

    Args:
        agent: Who calls.
        canister_id: The canister.
        interface: Its interface.

    Raises:
        UsageError: If the interface has no service.
    """

    def __init__(self, agent: Agent, canister_id: Principal, interface: candid.Interface) -> None:
        if interface.service is None:
            raise UsageError("the interface has no service, so there is no method to call")
        self.agent = agent
        self.id = canister_id
        self.interface = interface
        self._methods = interface.service.methods

    @classmethod
    async def at(
        cls,
        agent: Agent,
        canister_id: Principal | str,
        interface: candid.Interface | None = None,
    ) -> "Canister":
        """A canister that is installed already.

        Args:
            agent: Who calls.
            canister_id: The canister.
            interface: Its interface; by default what it tells by its ``candid:service`` metadata,
                certified.

        Raises:
            UsageError: If no interface is given and the canister tells none, or is not there.
            CandidError: If the told interface cannot be read.
            PrincipalError: If the id is not a principal.
        """
        if isinstance(canister_id, str):
            canister_id = Principal.from_text(canister_id)
        if interface is None:
            told = await agent.metadata(canister_id, "candid:service")
            if told is None:
                if await agent.module_hash(canister_id) is None:
                    raise UsageError(
                        f"there is no canister {canister_id} with a module on this network",
                        hint="check the id, and on which network it was installed",
                    )
                raise UsageError(
                    f"{canister_id} tells no interface: it has no candid:service metadata "
                    "that this caller may read",
                    hint="give its .did file",
                )
            interface = candid.parse_did(told.decode("utf-8", errors="replace"))
        return cls(agent, canister_id, interface)

    def as_agent(self, agent: Agent) -> "Canister":
        """The same canister, called by another agent."""
        return Canister(agent, self.id, self.interface)

    async def call(self, method: str, *values: Any, update: bool = False) -> Any:
        """Call a method by name: as a query where the interface says it is one, else certified.

        Args:
            method: The method.
            values: Its arguments.
            update: Call a query as an update, so that the answer is certified.

        Returns:
            None, the value, or a tuple of values, as the method has results.

        Raises:
            UsageError: If the interface has no such method.
            CandidError: If the values are not of the method's types, or the answer is not.
            BridgeError: As `Agent.update` and `Agent.query` raise.
        """
        function = self._methods.get(method)
        if function is None:
            raise UsageError(self._no_method(method))
        arg = encode_arguments(function.args, values)
        is_query = not update and {"query", "composite_query"} & set(function.modes)
        ask = self.agent.query if is_query else self.agent.update
        reply = await ask(self.id, method, arg)
        if "oneway" in function.modes:
            return None
        results = candid.decode(list(function.results), reply)
        if len(results) < 2:
            return results[0] if results else None
        return tuple(results)

    def _no_method(self, method: str) -> str:
        return f"canister {self.id} has no method {method!r} in its interface; it has: " + (
            ", ".join(sorted(self._methods)) or "none"
        )

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        # Copying and unpickling look for names before there are methods.
        if name.startswith("__") or "_methods" not in self.__dict__:
            raise AttributeError(name)
        if name not in self._methods:
            raise AttributeError(self._no_method(name))

        async def method(*values: Any, update: bool = False) -> Any:
            return await self.call(name, *values, update=update)

        method.__name__ = method.__qualname__ = name
        return method

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._methods})

    def __repr__(self) -> str:
        return f"<Canister {self.id}>"
