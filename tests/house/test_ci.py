"""The page of the CI run tells of the steps that are run, and of no others."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_names_each_step_of_the_run_in_its_order():
    run = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    page = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    steps = re.findall(r"^ *step (make [\w-]+)", run, re.MULTILINE)
    assert len(steps) > 5
    assert re.findall(r"^\| `(make [\w-]+)` \|", page, re.MULTILINE) == steps


def test_each_command_that_a_page_names_is_there():
    made = [ROOT / "Makefile", *(ROOT / "make").glob("*.mk")]
    rules = "\n".join(path.read_text(encoding="utf-8") for path in made)
    known = set(re.findall(r"^([\w-]+)(?=[^=\n]*:)", rules, re.MULTILINE))
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    pages += [ROOT / "motoko_reference" / "README.md", ROOT / "rust_reference" / "README.md"]
    for page in pages:
        for command in re.findall(r"`make ([\w-]+)", page.read_text(encoding="utf-8")):
            assert command in known, f"{page.relative_to(ROOT)}: make {command}"


def test_each_command_is_listed_with_what_it_does():
    for path in [ROOT / "Makefile", *(ROOT / "make").glob("*.mk")]:
        text = path.read_text(encoding="utf-8")
        phony = " ".join(re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)).split()
        for name in phony:
            told = re.search(rf"^{name}:.*## \S", text, re.MULTILINE)
            elsewhere = re.search(rf"^{name}: ", text, re.MULTILINE)
            assert told or elsewhere, f"{path.name}: {name}"
