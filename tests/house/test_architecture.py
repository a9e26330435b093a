"""The page of the house is true: its floors are those that lint holds, its rooms are there."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_the_floors_are_those_that_lint_holds():
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = config["tool"]["importlinter"]["contracts"]
    held = [set(layer.split(" | ")) for layer in reversed(contract["layers"])]
    held[0:2] = [held[0] | held[1]]  # `errors`, then its neighbours: one floor of the page
    told = {}
    for floor, rooms in re.findall(r"^\| (\d) \| ([^|]*) \|", PAGE, re.MULTILINE):
        told.setdefault(int(floor), set()).update(re.findall(r"`(\w+)`", rooms))
    assert [told[floor] for floor in sorted(told)] == held


def test_every_room_of_the_package_has_a_floor_and_every_folder_a_line():
    folder = ROOT / "bridge"
    rooms = {path.parent.name for path in folder.glob("*/__init__.py")}
    rooms |= {path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")}
    floors = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| \d \|.*$", PAGE, re.MULTILINE))))
    assert rooms <= floors
    top = PAGE.split("## Top level")[1].split("##")[0]
    kept = {"build", "dist", "node_modules"}
    for path in ROOT.iterdir():
        if path.is_dir() and not path.name.startswith(".") and path.name not in kept:
            assert f"`{path.name}/`" in top, path.name


def test_modules_that_the_page_names_inside_a_room_are_there():
    for room, text in re.findall(r"^### (\w+)\n(.*?)(?=^### |\Z)", PAGE, re.DOTALL | re.MULTILINE):
        inside = re.search(r"Inside(?: the room)?: (.*?\.)\n", text, re.DOTALL)
        for name in re.findall(r"`(\w+)` \(", inside[1] if inside else ""):
            place = ROOT / "bridge" / room / name
            assert place.is_dir() or place.with_suffix(".py").is_file(), f"{room}: {name}"
