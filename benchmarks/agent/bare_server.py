"""Answers every POST at once with as many bytes as its path asks for: the floor of HTTP here."""

import asyncio

from aiohttp import web


async def answer(request: web.Request) -> web.Response:
    await request.read()
    size = int(request.match_info["size"])
    return web.Response(body=bytes(size), content_type="application/cbor")


async def main() -> None:
    app = web.Application(client_max_size=4 << 20)
    app.router.add_post("/{size}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
