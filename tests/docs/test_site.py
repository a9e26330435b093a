"""The pages that are printed from the code are what the code says."""

import importlib.util
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


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
        if error.__subclasses__() and error.__name__ == "BridgeError":
            continue  # never raised itself where a more precise one exists
        assert cure.endswith("."), error
