"""What both ends of the Internet Computer's HTTP interface share: no sockets, no clock.

Request ids, envelopes and delegations; hash trees and certificates; signatures. A client signs
envelopes and verifies certificates and node signatures; a replica does the reverse.
"""

from bridge.wire import bls, hashtree, keys, leb128, signature
from bridge.wire._cbor import SELF_DESCRIBED, decode, decode_map, encode
from bridge.wire.certificate import (
    MAX_AGE,
    MAX_DELEGATION_AGE,
    Certificate,
    SubnetDelegation,
    decode_ranges,
    encode_ranges,
)
from bridge.wire.delegation import Delegation, SignedDelegation, verify_chain
from bridge.wire.envelope import (
    MAX_INGRESS_TTL,
    PERMITTED_DRIFT,
    Envelope,
    VerifiedRequest,
    verify_envelope,
)
from bridge.wire.query_signature import NodeSignature, query_response_hash, sign_query_response
from bridge.wire.request import (
    CallRequest,
    QueryRequest,
    ReadStateRequest,
    Request,
    parse_request,
)
from bridge.wire.request_id import (
    REQUEST,
    REQUEST_DELEGATION,
    RESPONSE,
    SENDER_INFO,
    STATE_ROOT,
    Value,
    hash_of_map,
    request_id,
)

__all__ = [
    "MAX_AGE",
    "MAX_DELEGATION_AGE",
    "MAX_INGRESS_TTL",
    "PERMITTED_DRIFT",
    "REQUEST",
    "REQUEST_DELEGATION",
    "RESPONSE",
    "SELF_DESCRIBED",
    "SENDER_INFO",
    "STATE_ROOT",
    "CallRequest",
    "Certificate",
    "Delegation",
    "Envelope",
    "NodeSignature",
    "QueryRequest",
    "ReadStateRequest",
    "Request",
    "SignedDelegation",
    "SubnetDelegation",
    "Value",
    "VerifiedRequest",
    "bls",
    "decode",
    "decode_map",
    "decode_ranges",
    "encode",
    "encode_ranges",
    "hash_of_map",
    "hashtree",
    "keys",
    "leb128",
    "parse_request",
    "query_response_hash",
    "request_id",
    "sign_query_response",
    "signature",
    "verify_chain",
    "verify_envelope",
]
