"""Every code block of the documentation does what the page says, in the order of the page.

What that means is said in ``page_player``. Pages that tell how to install the package are played by
``tests/distribution``, from an environment that holds what they install and nothing else.
"""

import ast
import asyncio
import builtins
import json
import re

import pytest
from page_player import PICTURES, ROOT, blocks_of, installs, is_here, on_a_free_port, pages, playing

from bridge import Identity, Network, candid
from bridge.contracts import motoko_canister
from bridge.errors import PeerUnusableError
from bridge.reference import contract, install_argument

CHECKED_ELSEWHERE = {"docs/candid.md"}  # by tests/candid/test_page.py, output included
PAGES = [page for page in pages() if page not in CHECKED_ELSEWHERE]
PLAYED_HERE = [page for page in PAGES if not installs(page)]
NEEDY = [block for page in PAGES for block in blocks_of(page) if block.needs]


def test_no_block_is_without_a_language():
    for page in pages():
        text = (ROOT / page).read_text(encoding="utf-8")
        fences = re.findall(r"^ *```(.*)$", text, re.MULTILINE)
        assert all(fences[0::2]), page
        assert not any(fences[1::2]), page


def test_no_command_is_hidden_from_the_tests_as_text():
    ours = re.compile(r"^(?:\$ )?(?:ic-bridge|pytest|make|pip) ", re.MULTILINE)
    shown = [
        block.place
        for page in PAGES
        for block in blocks_of(page)
        if block.language in PICTURES and ours.search(block.code)
    ]
    assert shown == [], "a command belongs into a console block"


def test_a_page_that_starts_a_replica_stops_that_one():
    for page in PAGES:
        code = "".join(block.code for block in blocks_of(page) if block.language == "console")
        for line in re.findall(r"replica start .*--background.*", code):
            place = re.search(r"--state-dir \S+", line) or re.search(r"--port \d+", line)
            assert place, f"{page}: {line}"
            assert f"replica stop {place[0]}\n" in code, f"{page}: {line}"


# Where readers begin: what a fragment takes for given has to be said there.
FOR_NEWCOMERS = [page for page in PAGES if re.match(r"README|docs/(how-to|tutorial)/", page)]


def names_of(code):
    """Names that a block reads, and those that it makes."""
    tree = ast.parse(code)
    read = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    made = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)} - read
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            made.add(node.id)
        elif isinstance(node, ast.alias):
            made.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.arg):
            made.add(node.arg)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ExceptHandler):
            made.add(node.name)
    return read - set(dir(builtins)), made


@pytest.mark.parametrize("page", FOR_NEWCOMERS)
def test_a_fragment_takes_no_name_for_given_that_the_page_does_not_speak_of(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    prose = re.sub(r"^ *```.*?^ *```$|<!--.*?-->", "", text, flags=re.DOTALL | re.MULTILINE)
    spoken_of = set(re.findall(r"`(\w+)`", prose))
    known = {"__name__"}
    for block in blocks_of(page):
        if block.language == "python" and block.title is None:
            read, made = names_of(block.code)
            known |= made
            assert read - known <= spoken_of, f"{block.place}: where do these come from?"


@pytest.mark.parametrize("page", PLAYED_HERE)
async def test_a_page_does_what_it_says(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    async with playing(tmp_path) as player:
        await player.page(on_a_free_port(blocks_of(page)))


async def test_the_tutorials_programs_bear_a_second_run_and_a_file_that_an_editor_wrote(tmp_path):
    async with playing(tmp_path) as player:
        blocks = on_a_free_port(blocks_of("docs/tutorial/first-flow.md"))
        begin = next(n for n, block in enumerate(blocks) if "replica start" in block.code)
        end = next(n for n, block in enumerate(blocks) if "python give_up.py" in block.code)
        await player.page(blocks[begin : end + 1])
        key = (tmp_path / "identity.pem").read_bytes()
        again = await asyncio.to_thread(player.run, "python deploy.py && echo >> canister.txt")
        assert again.returncode == 0, again.stderr
        assert (tmp_path / "identity.pem").read_bytes() == key
        sent = await asyncio.to_thread(player.run, "python send.py")
        assert sent.stdout == "b'hello'\n", sent.stderr
        nobody = re.search(r'from_text\("(\S+)"\)', (tmp_path / "give_up.py").read_text())[1]
        assert nobody not in sent.stderr
        for program, said in (
            ("post.py", ""),
            ("take.py", "b'are you there?'\n"),
            ("give_up.py", "no_canister\ngiven up\n"),
            ("send.py", "b'hello'\n"),
        ):
            done = await asyncio.to_thread(player.run, f"python {program}")
            assert (done.stdout, done.returncode) == (said, int(program == "post.py")), done.stderr
            if program != "give_up.py":  # which says that it cannot ask it
                assert nobody not in done.stderr
        status = await asyncio.to_thread(player.run, "ic-bridge watch status --json flows.db")
        usage = json.loads(status.stdout)["usage"]
        assert [usage[role]["open"] for role in ("sender", "receiver")] == [0, 0]


async def test_what_is_said_of_mainnet_works_on_a_replica_in_its_place(
    tmp_path, monkeypatch, capsys
):
    def written(name):
        return (tmp_path / name).read_text(encoding="utf-8").strip()

    echo, closed = motoko_canister("echo"), install_argument({}, agents=[])
    monkeypatch.chdir(tmp_path)
    async with (
        playing(tmp_path) as player,
        Network.embedded() as network,
        network.agent(Identity.generate()) as owner,
    ):
        await player.page(blocks_of("docs/how-to/mainnet.md"))
        types = contract.install_types("settings")
        argument = candid.encode(types, candid.parse_values(written("argument.txt"), types))
        monkeypatch.setattr(Network, "mainnet", lambda: network)
        await player.names["main"](await network.deploy(owner, echo, argument))
        assert capsys.readouterr().out == "b'hello'\n"
        stranger = await network.deploy(owner, echo, closed)
        with pytest.raises(PeerUnusableError, match=f"list {written('principal.txt')} in access"):
            await player.names["main"](stranger)


async def test_a_file_that_no_command_names_is_run_as_what_it_is(tmp_path):
    page = """\
```python title="{name}"
{code}
```
"""

    async def played(name, code):
        (tmp_path / "page.md").write_text(page.format(name=name, code=code))
        folder = tmp_path / name.removesuffix(".py")
        folder.mkdir()
        async with playing(folder) as player:
            await player.page(blocks_of(tmp_path / "page.md"))

    await played("script.py", "print(__file__)")
    await played("test_it.py", "async def test_it(): pass")
    with pytest.raises(AssertionError, match="NameError: name 'url' is not defined"):
        await played("hidden.py", "print(url)")
    with pytest.raises(AssertionError, match="1 failed"):
        await played("test_more.py", "async def test_it(): assert False")
    with pytest.raises(SyntaxError):
        await played("top.py", "await nothing()")


async def test_a_page_that_fails_leaves_no_replica_behind(tmp_path):
    page = """\
```console
$ ic-bridge replica start --background --state-dir one --port 4944
...4944...
$ ic-bridge replica start --background --state-dir \\
    two --port 4945
...
$ ic-bridge replica status \\
    --json | python -c 'import json, sys; print(len(json.load(sys.stdin)["replicas"]))'
2
$ false
```
"""
    (tmp_path / "page.md").write_text(page)
    blocks = on_a_free_port(blocks_of(tmp_path / "page.md"))
    assert "4944" not in blocks[0].code
    assert "4945" not in blocks[0].code
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(AssertionError, match=r"\$ false\n *exit 1"):
        async with playing(folder) as player:
            await player.play(blocks[0])
    assert '"running": false' in player.run("ic-bridge replica status --json").stdout


@pytest.mark.parametrize("block", NEEDY, ids=lambda block: f"{block.page}-{block.needs}")
def test_a_block_that_needs_a_program_is_run_where_it_is(block):
    if not is_here(block.needs):
        pytest.skip(f"{block.needs} is not here")
