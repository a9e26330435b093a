"""What a canister lacks or refuses stands; what it is only in the midst of passes."""

import pytest

from bridge.agent.error_codes import stands
from bridge.errors import CallRejectedError


def rejected(code, error_code):
    return CallRejectedError(
        "no", code=code, reject_message="no", error_code=error_code, certified=False
    )


@pytest.mark.parametrize(
    ("code", "error_code"),
    [
        (3, "IC0301"),  # there is no such canister
        (3, None),
        (5, "IC0536"),  # no such method, and as older replicas say it
        (3, "IC0302"),
        (5, "IC0537"),  # no module, and as older replicas say it
        (3, "IC0304"),
        (4, "IC0406"),  # the canister rejected, and as older replicas say it
        (5, "IC0516"),
        (4, None),
        (5, "IC0503"),  # the canister trapped with a text
    ],
)
def test_what_stands(code, error_code):
    assert stands(rejected(code, error_code))


@pytest.mark.parametrize(
    ("code", "error_code"),
    [
        (2, None),  # busy
        (2, "IC0201"),  # its queue is full
        (2, "IC0207"),  # out of cycles, and as older replicas say it
        (5, "IC0501"),
        (5, "IC0502"),  # trapped by the system
        (5, "IC0507"),  # out of memory
        (5, "IC0508"),  # stopped
        (5, "IC0509"),  # stopping
        (5, "IC0522"),  # ran too long
        (5, None),
        (6, None),
    ],
)
def test_what_passes(code, error_code):
    assert not stands(rejected(code, error_code))
