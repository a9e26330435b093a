"""Answers that the small replica of the agent's tests gives when it lies, for its `lie`."""

from aiohttp import web

from bridge import wire


def answered(certificate):
    """What says that a call is done, with a certificate."""
    return wire.encode({"status": "replied", "certificate": certificate})


async def accepted(_):
    """The call is said to be accepted, and never runs."""
    return web.Response(status=202)


async def ran(ask):
    """The call runs, and its outcome is not told."""
    ask.replica.take(ask.id, "greet")
    return web.Response(status=202)


def refusing(status, text="", *, after=None):
    """An HTTP status with a text; ``after`` so many seconds it may be tried again."""
    headers = {} if after is None else {"Retry-After": str(after)}

    async def refuse(_):
        return web.Response(status=status, headers=headers, text=text)

    return refuse


def busy(status):
    """Too much to do, at once to be tried again."""
    return refusing(status, "too much", after=0)
