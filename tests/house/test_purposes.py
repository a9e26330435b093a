"""Each file of code says in its first lines what it is for, and none has a word too much."""

import ast
import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMENTS = {
    ".mk": "#", ".sh": "#", ".mo": "///", ".rs": "//", ".mjs": "//", ".js": "//", ".wat": ";;",
}  # fmt: skip
# What is printed by a program, and what is no text of the house.
SKIPPED = re.compile(
    r"node_modules|/target/|^build/|^dist/|^\.venv|^\.\w+_cache|^\.hypothesis|/_data/"
)


def sources(*suffixes):
    """The files of the tree, as git has them where it is there."""
    names = []
    if shutil.which("git") and (ROOT / ".git").exists():
        command = ["git", "ls-files"]
        names = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=False
        ).stdout.splitlines()
    names = names or [str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if path.is_file()]
    found = [ROOT / name for name in names if not SKIPPED.search(name)]
    return [path for path in found if path.suffix in suffixes and path.is_file()]


def purpose(path):
    """The words of a file's first comment."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return ast.get_docstring(ast.parse(text)) or ""
    head = [line for line in text.splitlines()[:3] if not line.startswith("#!")]
    mark = COMMENTS[path.suffix]
    return " ".join(line.lstrip("/#!; ") for line in head if line.startswith(mark))


def test_every_module_says_what_it_is_for():
    modules = sources(".py", *COMMENTS)
    assert len(modules) > 300
    silent = [
        str(path.relative_to(ROOT))
        for path in modules
        if path.read_text(encoding="utf-8").strip() and len(purpose(path).split()) < 3
    ]
    assert silent == []


def test_nothing_is_left_to_be_done_in_the_text():
    marks = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX)\b")
    left = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sources(".py", ".md", ".toml", ".did", *COMMENTS)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if marks.search(line)
    ]
    assert left == []
