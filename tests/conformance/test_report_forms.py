"""The report as JUnit XML and as Markdown, and what a gate says of it."""

import dataclasses
import itertools

import junitparser
import pytest

from bridge.conformance import reports
from bridge.conformance.results import CellKey, Verdict
from bridge.errors import UsageError

# --- JUnit ----------------------------------------------------------------------------------------


@pytest.fixture
def suites(sample_report):
    return junitparser.JUnitXml.fromstring(reports.to_junit(sample_report))


def test_each_pair_and_dialect_is_a_suite_and_each_cell_a_case(suites, sample_report):
    assert suites.tests == len(sample_report.cells)
    assert [suite.name for suite in suites][:2] == [
        "motoko to motoko in unified",
        "motoko to motoko in maf",
    ]
    assert all(len(list(suite)) == suite.tests for suite in suites)


def test_the_counts_are_those_of_the_cells(suites, sample_report):
    for counted, verdict in (
        (suites.failures, Verdict.FAILED),
        (suites.errors, Verdict.ERROR),
        (suites.skipped, Verdict.UNSUPPORTED),
    ):
        assert counted == sample_report.count(verdict)
    assert sum(suite.failures for suite in suites) == suites.failures


def test_a_case_says_what_came_of_it_and_how_to_play_it_again(suites):
    cases = list(itertools.chain(*suites))
    of = {case.name.split()[0]: case for case in cases if case.classname.endswith(".theirs.maf")}
    assert of["F1"].result == []
    (failure,) = of["S6"].result
    assert (failure.type, failure.message[:23]) == ("delivery", "the handler ran 2 times")
    for said in ("a duplicate runs twice", "Keep a tombstone.", "--scenario S6 --seed 7"):
        assert said in failure.text
    assert isinstance(of["R1"].result[0], junitparser.Error)
    assert isinstance(of["G1"].result[0], junitparser.Skipped)
    assert of["S6"].system_out == "0001 NEW lost\n0002 NEW executed"


def test_a_clean_up_that_failed_alone_is_a_failure_of_that_kind(sample_report):
    cell = next(cell for cell in sample_report.cells if cell.verdict is Verdict.FAILED)
    alone = dataclasses.replace(cell, delivery=Verdict.PASSED, observed="as expected")
    report = dataclasses.replace(sample_report, cells=(alone,))
    (case,) = next(iter(junitparser.JUnitXml.fromstring(reports.to_junit(report))))
    assert (case.result[0].type, case.result[0].message) == ("clean-up", "the ACK goes on for ever")


def test_words_that_xml_cannot_carry_do_no_harm(sample_report):
    cell = dataclasses.replace(
        sample_report.cells[0], delivery=Verdict.ERROR, observed="\x00\x1b[31m\ud800 <x> & ]]>"
    )
    text = reports.to_junit(dataclasses.replace(sample_report, cells=(cell,)))
    (case,) = next(iter(junitparser.JUnitXml.fromstring(text)))
    assert case.result[0].message.endswith(" <x> & ]]>")


# --- Markdown -------------------------------------------------------------------------------------


def test_the_page_has_a_table_for_each_dialect_and_a_sign_for_each_cell(sample_report):
    page = reports.to_markdown(sample_report, title="The matrix")
    assert page.startswith("# The matrix\n")
    assert page.count("\n## Dialect ") == len(sample_report.dialects)
    rows = [line for line in page.splitlines() if line.startswith("| F1 ")]
    assert rows == ["| F1 one flow | ✓ | ✓ | ✓ | ✓ |"] * 2
    assert "| S6 FIN lost \\[Outgoing 4\\] | ✓ | ✗ | ✓ | ✗ |" in page
    assert "**8" not in page.split("##")[1]


def test_the_page_tells_of_each_cell_that_did_not_pass(sample_report):
    page = reports.to_markdown(sample_report)
    stories = page.split("## What did not pass")[1].split("## What is unsupported")[0]
    assert stories.count("### ") == 8
    assert "- what to do: Keep a tombstone." in stories
    assert "again: `ic-bridge conformance --sender motoko --receiver theirs" in stories


def test_reasons_for_what_is_unsupported_stand_once(sample_report):
    page = reports.to_markdown(sample_report)
    assert page.count("| the package has no saga |") == 1
    assert "unified, maf: motoko → theirs, theirs → theirs" in page


def test_what_a_stranger_said_is_no_markup(sample_report):
    page = reports.to_markdown(sample_report)
    assert "<script>" not in page
    assert '\\<script\\>alert("\\&")\\</script\\>' in page


def test_a_report_without_faults_has_no_chapter_on_them(sample_report):
    good = tuple(cell for cell in sample_report.cells if cell.verdict is Verdict.PASSED)
    page = reports.to_markdown(dataclasses.replace(sample_report, cells=good))
    assert "did not pass" not in page
    assert "is unsupported" not in page


# --- The gate -------------------------------------------------------------------------------------


@pytest.fixture
def require(tmp_path):
    """Reads requirements that are written in a file."""

    def read(text):
        path = tmp_path / "required.toml"
        path.write_text(text)
        return reports.Requirements.load(path)

    return read


def unmet(requirements, report):
    return {
        (str(one.cell.key) if one.cell else one.what): one.why for one in requirements.unmet(report)
    }


def test_without_a_file_all_that_is_supported_has_to_pass(sample_report):
    found = reports.Requirements.everything().unmet(sample_report)
    assert {one.cell.verdict for one in found} == {Verdict.FAILED, Verdict.ERROR}
    assert len(found) == 8


def test_only_required_cells_have_to_pass(require, sample_report):
    assert unmet(require('[[required]]\nreceiver = "motoko"'), sample_report) == {}
    assert unmet(require('[[required]]\nscenario = ["F*", "X?"]'), sample_report) == {}
    found = unmet(require('[[required]]\nscenario = "S?"\ndialect = "maf"'), sample_report)
    assert found == {
        "S6 motoko -> theirs (maf)": "failed",
        "S6 theirs -> theirs (maf)": "failed",
    }


def test_a_required_cell_that_is_unsupported_did_not_pass_unless_the_row_says_it_will_do(
    require, sample_report
):
    row = '[[required]]\nscenario = "G1"\n'
    assert set(unmet(require(row), sample_report).values()) == {"unsupported"}
    assert unmet(require(row + "unsupported = true"), sample_report) == {}


def test_an_exception_with_its_reason_takes_cells_out(require, sample_report):
    rows = '[[required]]\n[[except]]\nreceiver = "theirs"\nreason = "known"\n'
    assert unmet(require(rows), sample_report) == {}


def test_a_row_that_fits_no_cell_is_not_met(require, sample_report):
    found = unmet(require('[[required]]\nscenario = "S99"\nsender = ["a", "b"]'), sample_report)
    assert found == {"scenario S99, sender a or b": "no such cell was played"}
    nothing = dataclasses.replace(sample_report, cells=())
    assert unmet(require("[[required]]"), nothing) == {"every cell": "no such cell was played"}


def test_patterns_are_of_the_whole_name(require):
    key = CellKey("python", "rust", "unified", "S1")
    rows = require('[[required]]\nscenario = "S"\n')
    assert not rows._required[0].fits(key)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "requires nothing"),
        ("[[required", "cannot be read"),
        ("[[demanded]]", "demanded is no kind of row"),
        ("required = 1", "required is no list of rows"),
        ("[[required]]\nscenario = 1", "required 1: scenario is neither a text nor"),
        ("[[required]]\nscenarios = 'F1'", "required 1: scenarios = 'F1' has no place there"),
        ("[[required]]\n[[except]]\nscenario = 'F1'", "except 1 gives no reason"),
        ("[[required]]\n[[except]]\nunsupported = true", "unsupported = True has no place"),
    ],
)
def test_requirements_that_cannot_be_are_refused_by_their_row(require, text, said):
    with pytest.raises(UsageError, match=said.replace("[", r"\[")):
        require(text)


def test_requirements_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        reports.Requirements.load(tmp_path / "none.toml")
