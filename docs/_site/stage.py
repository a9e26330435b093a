"""Builds the site: stages the pages, adds those printed from the code, runs the generator strictly.

Pages are written to be read in the tree as well; what differs in the site is done here: links to
files elsewhere in the tree become links to their pages, diagrams become elements that a script
draws, drawn message sequences become part of the page, and the order of the pages is added.
``python docs/_site/stage.py [--output build/site]``.
"""

import argparse
import html
import posixpath
import re
import shutil
import subprocess
import sys
from pathlib import Path

import generated

ROOT = generated.ROOT
HERE = Path(__file__).parent
STAGED = ROOT / "build" / "docs"

CONTRACTS = "reference/contracts.md"
# Files outside docs/ that are pages of the site.
ELSEWHERE = {
    "motoko_reference/README.md": "reference/motoko.md",
    "rust_reference/README.md": "reference/rust.md",
    "candid/README.md": CONTRACTS,
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
# By its own title, or `a title <page>`.
NAVIGATION = {
    "Tutorial": ["tutorial/first-flow"],
    "How to": [
        "how-to/test-against-a-replica",
        "how-to/other-replicas",
        "how-to/mainnet",
        "how-to/write-a-handler",
        "how-to/use-a-mailbox",
        "how-to/keep-flows-in-postgresql",
        "how-to/watch-flows",
        "how-to/bring-your-own-canister",
        "how-to/gate-on-conformance",
        "how-to/read-a-failed-cell",
    ],
    "Reference": [
        "protocol",
        "flow/states",
        "reference/settings",
        "reference/command-line",
        "reference/configuration",
        "reference/pytest",
        "reference/errors",
        "reference/python",
        "reference/motoko",
        "motoko-cost",
        "reference/rust",
        "rust-cost",
        "reference/contracts",
        "candid",
        "conformance",
        "The conformance matrix <conformance-matrix>",
        "Faulty canisters that a run must find <rust-broken>",
        "The embedded replica <replica>",
        "replica-coverage",
        "The IC's system API, function by function <system-api>",
    ],
    "Explanation": [
        "explanation/why-one-shot",
        "explanation/what-is-promised",
        "How Python's flows are built <flow/README>",
        "decisions/README",
    ],
    "The project": [
        "changelog",
        "contributing",
        "How the code is arranged <architecture>",
        "modules",
        "What CI checks <ci>",
        "security",
    ],
}
# Pages that stand below one of these, which lists them itself.
FOLDED = {
    "decisions/README": re.compile(r"decisions/\d"),
    "reference/python": re.compile(r"reference/python/"),
    "reference/motoko": re.compile(r"reference/motoko/"),
    "reference/rust": re.compile(r"reference/rust/"),
}

_LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
_CONTRACT = re.compile(r"(?<!\[)`candid/(\w+\.did)`(?!\])")  # named, not linked
_PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+\.svg)\)")
_MERMAID = re.compile(r"^```mermaid\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_SETUP = re.compile(r"^<!-- (?:setup\n.*?^-->|needs: [\w-]+ -->)\n", re.DOTALL | re.MULTILINE)
_FENCE_TITLE = re.compile(r'^(```\w+) title="([^"]+)"$', re.MULTILINE)


def panels(alternative: str, drawing: str) -> str:
    """A drawn trace as elements of the page, one for each flow, which the page places and colours.

    Args:
        alternative: What it shows, in words.
        drawing: What `bridge.monitor.draw_timeline` drew.
    """
    heads = re.findall(r"<defs>.*?</defs>", drawing, re.DOTALL)
    drawn = re.findall(
        r'<g transform="[^"]*">(<rect class="panel" width="(\d+)" height="(\d+)".*?)</g>',
        drawing,
        re.DOTALL,
    )
    if not heads or not drawn:
        raise SystemExit("a picture is no drawn trace")
    elements = "".join(
        f'<svg viewBox="-1 -1 {int(width) + 2} {int(height) + 2}">{panel}</svg>'
        for panel, width, height in drawn
    )
    words = html.escape(" ".join(alternative.split()))
    return (
        f'<div class="timeline" role="img" aria-label="{words}">'
        f'<svg class="heads">{"".join(heads)}</svg>{elements}</div>'
    )


def in_site(text: str, source: str, page: str) -> str:
    """The text of the file ``source`` (from the top) as the site's ``page`` (from docs/)."""

    def move(found: re.Match[str]) -> str:
        words, (target, hash_, anchor) = found[1], found[2].partition("#")
        if "://" in target or not target:
            return found[0]
        place = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if not (ROOT / place).exists():
            raise SystemExit(f"{source}: there is no {place}")
        if (ROOT / place / "README.md").is_file():
            place += "/README.md"
        if place in ELSEWHERE:
            to = ELSEWHERE[place]
        elif place.startswith("candid/") and place.endswith(".did"):
            to, hash_, anchor = CONTRACTS, "#", posixpath.basename(place).replace(".", "")
        elif place.startswith("docs/") and (ROOT / place).is_file():
            to = place.removeprefix("docs/")
        elif place == "README.md":
            to = "index.md"
        else:  # a file of the tree that is no page is named, not linked
            return f"{words} (`{place}`)" if place not in words else words
        return f"[{words}]({posixpath.relpath(to, posixpath.dirname(page) or '.')}{hash_}{anchor})"

    text = _SETUP.sub("", text)
    top = posixpath.relpath(".", posixpath.dirname(source) or ".")
    text = _CONTRACT.sub(rf"[`\1`]({top}/candid/\1)", text)
    text = _LINK.sub(move, text)
    text = _PICTURE.sub(
        lambda found: panels(
            found[1],
            (ROOT / posixpath.dirname(source) / found[2]).read_text(encoding="utf-8"),
        ),
        text,
    )
    text = _FENCE_TITLE.sub(r"*\2*\n\n\1", text)
    return _MERMAID.sub(lambda found: f'<pre class="mermaid">\n{found[1]}</pre>', text)


def navigation(pages: set[str]) -> str:
    """The order of the pages, which must name each of them and no other."""
    entries = [entry for part in NAVIGATION.values() for entry in part]
    listed = [entry.rpartition("<")[2].removesuffix(">") for entry in entries]
    below = {page for page in pages for fold in FOLDED.values() if fold.match(page)}
    if twice := {page for page in listed if listed.count(page) > 1}:
        raise SystemExit(f"the site's order names pages twice: {sorted(twice)}")
    if missing := set(listed) - pages:
        raise SystemExit(f"the site's order names pages that are not there: {sorted(missing)}")
    if left := pages - set(listed) - below - {"index"}:
        raise SystemExit(f"pages without a place in the site's order: {sorted(left)}")
    parts = []
    for title, part in NAVIGATION.items():
        parts += ["```{toctree}", ":hidden:", f":caption: {title}", "", *part, "```", ""]
    return "\n".join(parts)


def folded(pages: list[str], above: str) -> str:
    """What the page ``above`` needs to have ``pages`` folded up below it in the order of pages."""
    names = [posixpath.relpath(page, posixpath.dirname(above)) for page in pages]
    return "\n".join(["", "```{toctree}", ":hidden:", "", *names, "```", ""])


def written() -> dict[str, str]:
    """The pages that stand in the tree: their place in the site, and their text there."""
    pages: dict[str, str] = {}
    for path in sorted((ROOT / "docs").rglob("*.md")):
        page = path.relative_to(ROOT / "docs").as_posix()
        if not page.startswith("_site/"):
            pages[page] = in_site(path.read_text(encoding="utf-8"), f"docs/{page}", page)
    for source, page in ELSEWHERE.items():
        pages[page] = in_site((ROOT / source).read_text(encoding="utf-8"), source, page)
    return pages


def stage() -> None:
    """Write every page to ``build/docs``."""
    shutil.rmtree(STAGED, ignore_errors=True)
    pages = written()
    pages |= generated.python_api()
    pages["modules.md"] = generated.modules()
    pages[CONTRACTS] = generated.contracts(pages[CONTRACTS])
    for language, names in (("motoko", generated.motoko_api()), ("rust", generated.rust_api())):
        pages[f"reference/{language}/names.md"] = names
        pages[f"reference/{language}.md"] += (
            "\n## Public names\n"
            f"All of them, with what their sources say: [Names]({language}/names.md).\n"
        )
    places = {page.removesuffix(".md") for page in pages}
    pages["index.md"] += "\n" + navigation(places)
    for above, below in FOLDED.items():
        pages[above + ".md"] += folded(sorted(filter(below.match, places)), above)
    for page, text in pages.items():
        place = STAGED / page
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
    shutil.copytree(HERE / "static", STAGED / "_static")
    shutil.copy(HERE / "conf.py", STAGED)
    shutil.copy(
        ROOT / "build" / "docs-env" / "node_modules" / "mermaid" / "dist" / "mermaid.min.js",
        STAGED / "_static",
    )


def main() -> int:
    """Stage and build; the exit code is the generator's."""
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    options.add_argument("--output", type=Path, default=ROOT / "build" / "site")
    output = options.parse_args().output
    stage()
    # -W: a broken link, anchor or name is an error; all of them are told at once.
    command = ["-W", "--keep-going", "-q", "-E", "-j", "auto", "-b", "html"]
    return subprocess.run(
        [sys.executable, "-m", "sphinx", *command, str(STAGED), str(output)], check=False
    ).returncode


if __name__ == "__main__":
    raise SystemExit(main())
