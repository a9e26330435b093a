"""The report in JSON: what it holds, what two runs agree in, and that it reads back."""

import dataclasses
import json

import jsonschema
import pytest

from bridge.conformance import reports
from bridge.errors import UsageError


@pytest.fixture
def document(sample_report):
    return json.loads(json.dumps(reports.to_document(sample_report)))


def test_a_report_is_valid_by_its_published_schema(document):
    validator = jsonschema.validators.validator_for(reports.schema())
    validator.check_schema(reports.schema())
    validator(reports.schema()).validate(document)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("run", "cells", 0, "verdict"), "maybe"),
        (("run", "cells", 0, "timeline", 0, "message"), "NAK"),
        (("run", "cells", 0, "hazard"), "a duplicate runs twice"),
        (("run", "seed"), "seven"),
        (("run", "more"), 1),
        (("figures", "cells", 0, "seconds"), -1),
        (("digest",), "no digest"),
    ],
)
def test_the_schema_refuses_what_is_none(document, place, value):
    *way, last = place
    inner = document
    for step in way:
        inner = inner[step]
    inner[last] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, reports.schema())


def test_a_report_reads_back_as_it_was_written(document, sample_report):
    assert reports.read_document(json.dumps(document)) == sample_report


def test_what_clocks_say_stands_apart_from_what_two_runs_agree_in(sample_report):
    slower = dataclasses.replace(
        sample_report,
        seconds=99.0,
        cells=tuple(
            dataclasses.replace(
                cell,
                seconds=cell.seconds + 1,
                virtual=cell.virtual + 1,
                timeline=tuple(
                    dataclasses.replace(record, time=record.time + 1) for record in cell.timeline
                ),
            )
            for cell in sample_report.cells
        ),
    )
    one, other = reports.to_document(sample_report), reports.to_document(slower)
    assert one["run"] == other["run"]
    assert one["digest"] == other["digest"]
    assert one["figures"] != other["figures"]
    assert reports.to_markdown(sample_report) == reports.to_markdown(slower)


def test_which_of_two_flows_was_faster_makes_no_other_run(sample_report):
    first = sample_report.cells[0]
    second_flow = tuple(dataclasses.replace(r, flow="flow 2") for r in first.timeline)

    def with_timeline(timeline):
        cell = dataclasses.replace(first, timeline=timeline)
        return dataclasses.replace(sample_report, cells=(cell, *sample_report.cells[1:]))

    one_by_one = with_timeline((*first.timeline, *second_flow))
    woven = [record for pair in zip(first.timeline, second_flow, strict=True) for record in pair]
    assert reports.digest(one_by_one) == reports.digest(with_timeline(tuple(woven)))


def test_another_outcome_is_another_run(sample_report):
    cell = dataclasses.replace(sample_report.cells[0], observed="something else")
    other = dataclasses.replace(sample_report, cells=(cell, *sample_report.cells[1:]))
    assert reports.digest(other) != reports.digest(sample_report)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "[" * 100_000,
        '{"$schema": "urn:ic-bridge:conformance-report:1", "digest": 2}',
    ],
)
def test_what_is_no_report_is_refused(text):
    with pytest.raises(UsageError, match="no conformance report in JSON"):
        reports.read_document(text)


def test_a_report_of_another_form_is_refused(document):
    document["$schema"] = "urn:ic-bridge:conformance-report:9"
    with pytest.raises(UsageError, match="another form than urn:ic-bridge"):
        reports.read_document(json.dumps(document))


def test_a_report_that_was_touched_up_is_refused(document):
    for cell in document["run"]["cells"]:
        cell["delivery"] = cell["clean_up"] = "passed"
    with pytest.raises(UsageError, match="changed after it was written"):
        reports.read_document(json.dumps(document))
