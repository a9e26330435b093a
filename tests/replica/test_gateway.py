"""The HTTP gateway: what a canister is told of a request, and a browser of its answer."""

import asyncio

import aiohttp
import pytest
import wasmtime
import yarl

from bridge import candid
from bridge.candid import Case
from bridge.principal import Principal
from bridge.replica.http import gateway

MISSING = "rrkah-fqaaa-aaaaa-aaaaq-cai"
HEADERS = candid.Vec(candid.Record([candid.Text, candid.Text]))
REQUEST = candid.Record(
    {
        "method": candid.Text,
        "url": candid.Text,
        "headers": HEADERS,
        "body": candid.Blob,
        "certificate_version": candid.Opt(candid.Nat16),
    }
)
TOKEN = candid.Record({"at": candid.Nat, "of": candid.Text})
CALLBACK = candid.Func(
    [TOKEN], [candid.Record({"body": candid.Blob, "token": candid.Opt(TOKEN)})], modes=["query"]
)
STRATEGY = candid.Variant({"Callback": candid.Record({"callback": CALLBACK, "token": TOKEN})})
RESPONSE = candid.Record(
    {
        "status_code": candid.Nat16,
        "headers": HEADERS,
        "body": candid.Blob,
        "upgrade": candid.Opt(candid.Bool),
        "streaming_strategy": candid.Opt(STRATEGY),
    }
)
# Where the scripted canister keeps what its methods answer, as pointers to programs.
SCRIPTS = {"http_request": 56, "http_request_update": 64, "more": 72, "lists": 80}
ECHO = r"""(module
  (import "ic0" "msg_arg_data_size" (func $size (result i32)))
  (import "ic0" "msg_arg_data_copy" (func $copy (param i32 i32 i32)))
  (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
  (import "ic0" "msg_reply" (func $reply))
  (memory 4)
  (data (i32.const 16) "%s")
  (data (i32.const 4096) "%s")
  (func (export "canister_query http_request") (local $n i32)
    (local.set $n (call $size))
    (call $copy (i32.const 65536) (i32.const 0) (local.get $n))
    (i32.store8 (i32.const 0) (i32.or (local.get $n) (i32.const 128)))
    (i32.store8 (i32.const 1)
      (i32.or (i32.shr_u (local.get $n) (i32.const 7)) (i32.const 128)))
    (i32.store8 (i32.const 2) (i32.shr_u (local.get $n) (i32.const 14)))
    (call $append (i32.const 16) (i32.const %d))
    (call $append (i32.const 0) (i32.const 3))
    (call $append (i32.const 65536) (local.get $n))
    (call $append (i32.const 4096) (i32.const %d))
    (call $reply)))"""


def response(status=200, body=b"", headers=(), *, upgrade=None, streaming=None):
    return candid.encode(
        [RESPONSE],
        [
            {
                "status_code": status,
                "headers": list(headers),
                "body": body,
                "upgrade": upgrade,
                "streaming_strategy": streaming,
            }
        ],
    )


def _literal(data):
    return "".join(f"\\{byte:02x}" for byte in data)


def echo_wasm():
    """A canister that answers with the request that it got, as the body."""
    mark = b"the place of the body"
    before, after = response(body=mark).split(bytes([len(mark)]) + mark)
    return bytes(
        wasmtime.wat2wasm(ECHO % (_literal(before), _literal(after), len(before), len(after)))
    )


@pytest.fixture(scope="module")
def scripted_wasm():
    """Makes a canister whose HTTP methods run the programs that were put there."""

    def make(universal):
        return universal(
            memory64=True,
            custom="\n".join(
                f'(func (export "canister_{"update" if name.endswith("update") else "query"} '
                f'{name}") (call $maybe (i64.load (i64.const {at}))))'
                for name, at in SCRIPTS.items()
            ),
        )

    return make


@pytest.fixture
async def scripted(client, program, universal_module, scripted_wasm):
    """Deploys that canister; ``script(http_request=...)`` says what it answers."""
    canister = await client.create(scripted_wasm(universal_module))

    async def script(**answers):
        setting = program()
        for name, answer in answers.items():
            run = program().reply(answer) if isinstance(answer, bytes) else answer
            setting.blob(bytes(run)).drop().store(SCRIPTS[name])
        await client.certified(canister, "update", setting.reply(b""))

    script.canister = canister
    script.ask = lambda *args, **options: ask(client, canister, *args, **options)
    return script


async def ask(client, canister, method="GET", path="/", *, host=None, **options):
    """Status, headers and body of a request by the canister's own host name."""
    port = client.replica.url.rsplit(":", 1)[1]
    headers = {"Host": host or f"{canister}.localhost:{port}", **options.pop("headers", {})}
    async with client.session.request(
        method,
        yarl.URL(client.replica.url + path, encoded=True),
        headers=headers,
        allow_redirects=False,
        auto_decompress=False,
        **options,
    ) as answer:
        return answer.status, answer.headers, await answer.read()


async def test_the_canister_is_told_the_whole_request(client):
    canister = await client.create(echo_wasm())
    status, _, body = await ask(
        client,
        canister,
        "POST",
        "/some/%C3%A4%20path?a=1&b=%2F",
        data=b"\x1f\x8b no gzip at all",
        headers={"X-Odd": "yes", "Content-Encoding": "gzip"},
    )
    assert status == 200
    (told,) = candid.decode([REQUEST], body)
    assert (told["method"], told["url"]) == ("POST", "/some/%C3%A4%20path?a=1&b=%2F")
    assert told["body"] == b"\x1f\x8b no gzip at all"
    assert told["certificate_version"] == 2
    headers = dict(told["headers"])
    assert headers["x-odd"] == "yes"
    assert headers["host"].startswith(f"{canister}.localhost")


@pytest.mark.parametrize("host", ["{}.localhost", "{}.raw.localhost:80", "{}.LOCALHOST."])
@pytest.mark.covers("HTTP gateway")
async def test_the_host_names_the_canister(client, scripted, host):
    await scripted(http_request=response(body=b"by name"))
    status, _, body = await scripted.ask(host=host.format(scripted.canister))
    assert (status, body) == (200, b"by name")


@pytest.mark.covers("HTTP gateway")
async def test_a_parameter_names_the_canister_elsewhere(client, scripted):
    await scripted(http_request=response(body=b"by parameter"))
    async with client.session.get(
        f"{client.replica.url}/index.html?canisterId={scripted.canister}"
    ) as answer:
        assert (answer.status, await answer.read()) == (200, b"by parameter")


async def test_a_page_with_the_parameter_finds_what_it_refers_to(client, scripted):
    await scripted(http_request=response(body=b"its script"))
    page = f"{client.replica.url}/?canisterId={scripted.canister}"
    for referer, expected in (
        (page, 200),
        (page.replace("127.0.0.1", "127.0.0.2"), 404),
        ("http://[", 404),
    ):
        async with client.session.get(
            client.replica.url + "/script.js", headers={"Referer": referer}
        ) as answer:
            assert answer.status == expected


async def test_status_headers_and_body_are_passed_on(scripted):
    headers = [
        ("Content-Type", "text/css"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
        ("IC-Certificate", "certificate=:abc:"),
        ("Content-Length", "999"),
        ("Transfer-Encoding", "chunked"),
        ("Location", "/elsewhere"),
    ]
    await scripted(http_request=response(307, b"moved", headers))
    status, found, body = await scripted.ask()
    assert (status, body) == (307, b"moved")
    assert found["Content-Type"] == "text/css"
    assert found.getall("Set-Cookie") == ["a=1", "b=2"]
    assert found["IC-Certificate"] == "certificate=:abc:"
    assert found["Location"] == "/elsewhere"
    assert found["Content-Length"] == "5"
    assert "Transfer-Encoding" not in found


async def test_an_answer_to_head_has_no_body(scripted):
    await scripted(http_request=response(200, b"four", [("X-Kind", "head")]))
    status, headers, body = await scripted.ask("HEAD")
    assert (status, headers["X-Kind"], headers["Content-Length"], body) == (200, "head", "4", b"")
    await scripted(http_request=response(200, b"", [("Content-Length", "1234")]))
    _, headers, _ = await scripted.ask("HEAD")
    assert headers["Content-Length"] == "1234"


@pytest.mark.covers("HTTP gateway")
async def test_the_canister_can_ask_for_an_update(client, scripted, program):
    counting = program().add_to_counter(1)
    await scripted(
        http_request=response(500, b"not this one", upgrade=True),
        http_request_update=counting.reply(response(201, b"changed", upgrade=True)),
    )
    for _ in range(2):
        status, _, body = await scripted.ask("POST", data=b"x")
        assert (status, body) == (201, b"changed")
    counter = await client.certified(
        scripted.canister, "update", program().counter().append_number().reply()
    )
    assert counter(b"reply") == (2).to_bytes(8, "little")


def _strategy(canister, method, token):
    return Case("Callback", {"callback": candid.FuncRef(canister, method), "token": token})


def _more(body, token=None):
    return candid.encode(
        [candid.Record({"body": candid.Blob, "token": candid.Opt(TOKEN)})],
        [{"body": body, "token": token}],
    )


@pytest.mark.covers("HTTP gateway")
async def test_a_body_comes_in_parts_each_for_its_token(scripted, program):
    token = {"at": 2**70, "of": "page"}
    argument = candid.encode([TOKEN], [token])
    mark = b"?" * len(argument)
    before, after = _more(mark).split(mark)
    telling = program().msg_reply_data_append(before).append_blob_of("msg_arg_data")
    streaming = _strategy(scripted.canister, "more", token)
    await scripted(
        http_request=response(200, b"one ", [("X-Kind", "parts")], streaming=streaming),
        more=(telling.msg_reply_data_append(after) if after else telling).reply(),
    )
    status, headers, body = await scripted.ask()
    assert (status, headers["X-Kind"], body) == (200, "parts", b"one " + argument)


async def test_parts_go_on_while_there_is_a_token(scripted, monkeypatch):
    token = {"at": 2**70, "of": "page"}
    monkeypatch.setattr(gateway, "MAX_CHUNKS", 5)
    await scripted(
        http_request=response(200, b"1", streaming=_strategy(scripted.canister, "more", token)),
        more=_more(b"2", token),
    )
    with pytest.raises(aiohttp.ClientError):
        await scripted.ask()
    status, _, body = await scripted.ask("HEAD")
    assert (status, body) == (200, b"")


@pytest.mark.covers("HTTP gateway")
async def test_parts_of_another_canister_are_refused(scripted):
    other = Principal.from_text(MISSING)
    token = {"at": 0, "of": ""}
    await scripted(http_request=response(200, b"1", streaming=_strategy(other, "more", token)))
    status, _, body = await scripted.ask()
    assert status == 502
    assert b"another canister" in body


async def test_a_part_that_fails_at_once_is_a_failure(scripted, program):
    token = {"at": 0, "of": ""}
    await scripted(
        http_request=response(200, b"1", streaming=_strategy(scripted.canister, "more", token)),
        more=program().trap("no more"),
    )
    status, _, body = await scripted.ask()
    assert status == 502
    assert b"no more" in body


async def test_failures_are_plain_text(client, scripted, program):
    port = client.replica.url.rsplit(":", 1)[1]
    status, headers, body = await ask(client, MISSING)
    assert (status, headers["Content-Type"]) == (404, "text/plain; charset=utf-8")
    assert f"Canister {MISSING} not found".encode() in body
    status, _, body = await ask(client, "", host=f"nonsense.localhost:{port}")
    assert status == 400
    assert b"nonsense" in body
    await scripted(http_request=program().trap("it broke"))
    status, headers, body = await scripted.ask()
    assert (status, headers["Content-Type"]) == (502, "text/plain; charset=utf-8")
    assert b"it broke" in body
    assert b"Traceback" not in body
    empty = await client.create()
    assert (await ask(client, empty))[0] == 502


BAD_ANSWERS = {
    "no Candid": b"nonsense",
    "another type": candid.encode([candid.Text], ["hello"]),
    "a status that ends nothing": response(100),
    "a status that is none": response(999),
    "a header with a line break": response(200, b"", [("X-A", "b\r\nX-C: d")]),
    "a header without a name": response(200, b"", [("", "b")]),
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
async def test_a_bad_answer_is_a_bad_gateway(scripted, name):
    await scripted(http_request=BAD_ANSWERS[name])
    status, _, body = await scripted.ask()
    assert status == 502
    assert str(scripted.canister).encode() in body


async def test_an_update_that_is_not_answered_in_time(client, scripted, monkeypatch):
    monkeypatch.setattr(gateway, "UPDATE_SECONDS", 0.1)
    await scripted(http_request=response(upgrade=True))
    late = {"action": "delay", "nanoseconds": 3600 * 10**9, "method": "http_request_update"}
    assert (await client.admin("POST", "/faults", json=late))[0] == 200
    status, _, body = await scripted.ask()
    assert status == 504
    assert b"has not answered" in body


async def test_the_interface_is_there_under_every_name(client, scripted):
    status, _, _ = await scripted.ask(path="/api/v2/status")
    assert status == 200


async def test_the_admin_interface_is_not_there_under_a_canisters_name(scripted):
    await scripted(http_request=response(body=b"the canister's own"))
    _, _, body = await scripted.ask(path="/_admin/status")
    assert body == b"the canister's own"


async def test_many_ask_at_once(scripted):
    await scripted(http_request=response(body=b"x" * 1000))
    answers = await asyncio.gather(*(scripted.ask() for _ in range(50)))
    assert {(status, body) for status, _, body in answers} == {(200, b"x" * 1000)}
