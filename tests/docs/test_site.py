"""The pages that are printed from the code are what the code says."""

import ast
import importlib.util
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
BRIDGE = TESTS.parent / "bridge"
DOCS = TESTS.parent / "docs"


@pytest.fixture(scope="module")
def generated():
    spec = importlib.util.spec_from_file_location("generated", DOCS / "_site" / "generated.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["settings.md", "command-line.md", "errors.md"])
def test_a_kept_page_is_what_the_code_prints(generated, page):
    kept = (DOCS / "reference" / page).read_text(encoding="utf-8")
    assert kept == generated.KEPT[page](), "rewrite it with: make docs-reference"


def test_every_error_class_tells_its_cause_and_cure(generated):
    for error in generated.error_classes():
        cause, cure = generated.cause_and_cure(error)
        assert cause.endswith("."), error
        if error.__name__ != "BridgeError":  # which is what all are
            assert cure.endswith("."), error


def test_every_error_class_is_provoked_by_a_test_that_reads_its_text(generated):
    read = {}
    for file in TESTS.rglob("test_*.py"):
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if (
                isinstance(call, ast.Call)
                and isinstance(call.func, ast.Attribute)
                and call.func.attr == "raises"
                and any(keyword.arg == "match" for keyword in call.keywords)
            ):
                for name in ast.walk(call.args[0]):
                    if isinstance(name, ast.Name | ast.Attribute):
                        read[getattr(name, "id", None) or getattr(name, "attr", None)] = file
    code = "".join(file.read_text(encoding="utf-8") for file in BRIDGE.rglob("*.py"))
    raised = [
        one.__name__
        for one in generated.error_classes()
        if f"{one.__name__}(\n" in code or f"raise {one.__name__}(" in code
    ]
    assert len(raised) > 15
    assert not [name for name in raised if name not in read]
