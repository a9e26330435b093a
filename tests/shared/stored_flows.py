"""Flows to be stored, where it does not matter what they say."""

import dataclasses

from bridge.flow import SenderFlow, SenderState
from bridge.principal import Principal

CANISTER = Principal.from_text("rrkah-fqaaa-aaaaa-aaaaq-cai")


def flow(msg_id: int, **fields: object) -> SenderFlow:
    """A flow that was opened under this id, with any of its fields as one likes."""
    bare = SenderFlow(
        peer=CANISTER,
        msg_id=msg_id,
        dialect="unified",
        state=SenderState.QUEUED,
        payload=b"x",
        payload_hash=0,
        opened=0,
        changed=0,
    )
    return dataclasses.replace(bare, **fields)
