"""Does with ic-py or icp-py-core what each line asks; runs in that library's own environment.

Answers in one line of JSON: {"ok": ...} or {"error": {"name", "message"}}. Bytes go as hexadecimal
digits. Whatever the library prints goes to standard error.
"""

import json
import sys

NAME = sys.argv[1]
if NAME == "ic-py":
    from ic import system_state
    from ic.agent import Agent
    from ic.client import Client
    from ic.identity import DelegateIdentity, Identity
else:
    from icp_agent import Agent, Client
    from icp_identity import DelegateIdentity, Identity

OUT, sys.stdout = sys.stdout, sys.stderr
agents = {}


def identity(kind, seed="", chain=None):
    if kind == "anonymous":
        return Identity(anonymous=True)
    if kind == "delegated":
        return DelegateIdentity(Identity(privkey=seed), chain)
    return Identity(privkey=seed, type=kind)


def plain(values):
    """A reply's values as JSON can hold them; principals as text, bytes as they are."""
    if isinstance(values, (bytes, bytearray)):
        return bytes(values).hex()
    if isinstance(values, str):
        return {"text": values}
    found = [one["value"] for one in values]
    return [one.to_str() if hasattr(one, "to_str") else one for one in found]


class Operations:
    @staticmethod
    def connect(name, url, who, root_key=None):
        more = {} if root_key is None else {"root_key": bytes.fromhex(root_key)}
        agents[name] = Agent(identity(**who), Client(url=url), **more)
        return agents[name].get_principal().to_str()

    @staticmethod
    def update(agent, canister, method, arg, verify=None, effective=None, timeout=30):
        if NAME == "ic-py":
            more = {"delay": 0.05, "timeout": timeout, "effective_canister_id": effective}
        else:
            more = {} if verify else {"verify_certificate": False}
        return plain(agents[agent].update_raw(canister, method, bytes.fromhex(arg), **more))

    @staticmethod
    def query(agent, canister, method, arg, verify=None):
        more = {} if verify is None else {"verify_query_signatures": verify}
        return plain(agents[agent].query_raw(canister, method, bytes.fromhex(arg), **more))

    @staticmethod
    def state(agent, canister):
        """Module hash and controllers of a canister."""
        used = agents[agent]
        if NAME == "ic-py":
            return {
                "hash": system_state.canister_module_hash(used, canister),
                "controllers": [
                    one.to_str() for one in system_state.canister_controllers(used, canister)
                ],
                "time": system_state.time(used, canister),
            }
        import cbor2
        from icp_principal.principal import Principal

        root = [b"canister", Principal.from_str(canister).bytes]
        paths = [[*root, b"module_hash"], [*root, b"controllers"]]
        found = used.read_state_raw(canister, paths, verify_certificate=False)
        return {
            "hash": found.lookup(paths[0]).hex(),
            "controllers": [Principal(one).to_str() for one in cbor2.loads(found.lookup(paths[1]))],
            "time": found.lookup_time(),
        }


for line in sys.stdin:
    asked = json.loads(line)
    try:
        answer = {"ok": getattr(Operations, asked.pop("op"))(**asked)}
    except Exception as error:  # noqa: BLE001 - whatever the library raises is the answer
        answer = {"error": {"name": type(error).__name__, "message": str(error)}}
    OUT.write(json.dumps(answer) + "\n")
    OUT.flush()
