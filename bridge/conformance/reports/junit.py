"""A report as JUnit XML, which CI servers read: one suite a pair and dialect, one case a cell."""

import re
from typing import Final
from xml.etree import ElementTree as ET

from bridge.conformance.reports.words import judged
from bridge.conformance.results import Cell, Report, Verdict

# What XML 1.0 cannot carry; a stranger's canister may have put it into its words.
_UNWRITABLE: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_junit(report: Report) -> str:
    """A report as the text of an XML document."""
    suites: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in report.cells:
        key = cell.key
        suites.setdefault((key.sender, key.receiver, key.dialect), []).append(cell)
    titles = {scenario.id: scenario.title for scenario in report.scenarios}
    root = ET.Element("testsuites", _counts(report.cells), name="ic-bridge conformance")
    for (sender, receiver, dialect), cells in suites.items():
        name = f"{sender} to {receiver} in {dialect}"
        suite = ET.SubElement(root, "testsuite", _counts(cells), name=_text(name))
        properties = ET.SubElement(suite, "properties")
        for field, value in (
            ("seed", report.seed),
            ("network", report.network),
            ("version", report.version),
        ):
            ET.SubElement(properties, "property", name=field, value=_text(str(value)))
        for cell in cells:
            _add_case(suite, cell, titles.get(cell.key.scenario, ""))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=False) + "\n"


def _counts(cells: "tuple[Cell, ...] | list[Cell]") -> dict[str, str]:
    def count(verdict: Verdict) -> str:
        return str(sum(cell.verdict is verdict for cell in cells))

    return {
        "tests": str(len(cells)),
        "failures": count(Verdict.FAILED),
        "errors": count(Verdict.ERROR),
        "skipped": count(Verdict.UNSUPPORTED),
        "time": f"{sum(cell.seconds for cell in cells):.3f}",
    }


def _add_case(suite: ET.Element, cell: Cell, title: str) -> None:
    key = cell.key
    case = ET.SubElement(
        suite,
        "testcase",
        classname=_text(f"conformance.{key.sender}.{key.receiver}.{key.dialect}"),
        name=_text(f"{key.scenario} {title}".strip()),
        time=f"{cell.seconds:.3f}",
    )
    observed = cell.observed if cell.delivery is not Verdict.PASSED else cell.clean_up_observed
    match cell.verdict:
        case Verdict.UNSUPPORTED:
            ET.SubElement(case, "skipped", message=_text(cell.observed))
        case Verdict.FAILED:
            kind = "delivery" if cell.delivery is Verdict.FAILED else "clean-up"
            failure = ET.SubElement(case, "failure", type=kind, message=_text(observed))
            failure.text = _text(told(cell))
        case Verdict.ERROR:
            error = ET.SubElement(case, "error", type="error", message=_text(observed))
            error.text = _text(told(cell))
    lines = [*(f"not judged: {reason}" for reason in cell.unjudged), *cell.log]
    if lines:
        ET.SubElement(case, "system-out").text = _text("\n".join(lines))


def told(cell: Cell) -> str:
    """What a reader of a failure needs, one line each."""
    lines = [
        f"verdict: {judged(cell)}",
        f"requirement: {cell.requirement}",
        f"expected: {cell.expected}",
        f"observed: {cell.observed}",
    ]
    if cell.clean_up_observed:
        lines.append(f"clean-up: {cell.clean_up_observed}")
    if cell.hazard is not None:
        lines += [
            f"hazard: {cell.hazard.name}",
            f"it means: {cell.hazard.meaning}",
            f"what to do: {cell.hazard.remedy}",
        ]
    if cell.rerun:
        lines.append(f"again: {cell.rerun}")
    return "\n".join(lines)


def _text(text: str) -> str:
    return _UNWRITABLE.sub("\ufffd", text)
