"""The tables are total, and they are those of the protocol page."""

import re
from pathlib import Path

import pytest

from bridge.flow import ReceiverState, SenderState, receiver, sender
from bridge.flow.events import Event

PAGE = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"

STATES = {
    "Sender": {
        "-": {None},
        "any": set(SenderState),
        "any stored": set(SenderState),
        "Failed, late": {SenderState.FAILED},
        "Failed, not late": {SenderState.FAILED},
        "Failed, told and its late response taken": {SenderState.FAILED},
    },
    "Receiver": {
        "-": {None},
        "any": set(ReceiverState),
        "any known": set(ReceiverState),
    },
}
TABLES = {"Sender": sender.TABLE, "Receiver": receiver.TABLE}
NAMES = {
    "Sender": {"".join(word.title() for word in s.split("_")): s for s in SenderState},
    "Receiver": {s.title(): s for s in ReceiverState},
}
# Rows whose code also covers what the page says of no flow at all.
BEYOND_THE_CELL = {
    ("Receiver", "any", "answer given twice, or after the flow is gone"): (
        {ReceiverState.ACKNOWLEDGING, ReceiverState.ABANDONED, ReceiverState.FINISHED, None},
        "the first answer is no second one; none is known after the flow is gone",
    ),
}
# Rows of the code that the page states in prose; each says where.
IN_PROSE = {
    "Sender": {
        "receipt": "Dialects: null_ack per peer",
        "receipt_ignored": "Dialects: null_ack per peer",
        "telling_failed": "Terms: tell, hand over",
        "telling_due": "Terms: tell, hand over",
        "telling_taken": "Terms: tell, hand over",
        "unknown_ack": "Sender, below the table: unknown ACKs",
    },
    "Receiver": {
        "deferred": "Terms: handler",
        "other_new_again": "at most three for a flow: the rest is counted",
        "echo_not_sent": "Echo rule: an echo that is not sent moves nothing",
        "rejected": "a reject of unknown outcome decides nothing",
        "fin_wrong_again": "at most three: the rest is counted",
        "question_failed": "its decision: a handler that fails has decided nothing",
        "unknown_fin": "Receiver, below the table: FIN look-up",
        "telling_taken": "Terms: tell, hand over",
        "telling_failed": "Terms: tell, hand over",
        "telling_due": "Terms: tell, hand over",
    },
}


def page_rows(section):
    """(state, event, next, effects) of each row of a section's table."""
    text = PAGE.read_text(encoding="utf-8")
    body = text.split(f"\n## {section}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in body.splitlines() if line.startswith("| ")]
    rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]
    return [row for row in rows if row[0] not in ("state", "---")]


def states_of(section, cell):
    if cell in STATES[section]:
        return STATES[section][cell]
    return {NAMES[section][name] for name in cell.split(", ")}


@pytest.mark.parametrize("section", TABLES)
def test_every_row_of_the_page_is_in_the_code_and_every_row_of_the_code_on_the_page(section):
    on_page = {(row[0], row[1]) for row in page_rows(section)}
    in_code = {row.page for row in TABLES[section].rows if row.page is not None}
    assert in_code == on_page
    prose = {row.name for row in TABLES[section].rows if row.page is None}
    assert prose == set(IN_PROSE[section])


@pytest.mark.parametrize("section", TABLES)
def test_the_rows_are_for_the_pages_states(section):
    for state, event, *_ in page_rows(section):
        covered = {
            s for row in TABLES[section].rows if row.page == (state, event) for s in row.states
        }
        beyond = BEYOND_THE_CELL.get((section, state, event))
        assert covered == (beyond[0] if beyond else states_of(section, state)), (state, event)


@pytest.mark.parametrize("section", TABLES)
def test_the_rows_lead_to_the_pages_next_states(section):
    for state, event, following, _effects in page_rows(section):
        reached = {
            to for row in TABLES[section].rows if row.page == (state, event) for to in row.to
        }
        named = {s for name, s in NAMES[section].items() if re.search(rf"\b{name}\b", following)}
        if following.startswith("unchanged"):
            named = set()
        if "forgotten" in following:
            named |= {None}
        own = states_of(section, state)
        if len(own) == 1:  # "stays where it is" is said in several ways
            reached -= own
            named -= own
        assert reached == named, (state, event, following)


@pytest.mark.parametrize("section", TABLES)
def test_names_of_rows_are_unique(section):
    names = [row.name for row in TABLES[section].rows]
    assert len(set(names)) == len(names)


def settings_on_page():
    text = PAGE.read_text(encoding="utf-8")
    return text.split("\n## Settings and defaults\n", 1)[1].split("\n## ", 1)[0]


def test_the_defaults_are_the_pages(policy_defaults_on_page):
    from bridge.flow import Policy

    for names, values in policy_defaults_on_page:
        assert Policy.from_mapping(dict(zip(names, values, strict=True))) == Policy()


@pytest.fixture
def policy_defaults_on_page():
    rows = []
    for line in settings_on_page().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("| ") or cells[0] in ("setting", "---"):
            continue
        names = NAMED.get(cells[0]) or re.findall(r"`(\w+)`", cells[0])
        defaults = zip(texts(cells[1]), names, strict=True)
        rows.append((names, [value_of(text, name) for text, name in defaults]))
    assert len(rows) == 13
    return rows


NAMED = {
    "`echo_min`, unknown-ACK FINs": ["echo_min", "unknown_fins_per_second"],
    "open flows, per peer / in all": ["open_flows_per_peer", "open_flows"],
    "tombstones, per peer / in all": ["tombstones_per_peer", "tombstones"],
    "bytes stored, per peer / in all": ["bytes_per_peer", "bytes"],
    "outbox per agent; event history": ["outbox_messages", "outbox_bytes", "events"],
}


def texts(cell):
    cell = re.sub(r"(?<=\d),(?=\d{3})", "", cell)
    return re.split(r", | / |; | and ", cell)


def value_of(text, name):
    if name == "jitter":
        return float(text)
    if name == "attach_cycles":
        return {"new": int(text), "ack": int(text), "fin": int(text)}
    if match := re.match(r"(\d+)(?: messages| events| a second in all)?$", text):
        return int(match[1])
    return text


# --- Totality -----------------------------------------------------------------------------------


def all_events():
    from bridge.flow import events

    return [
        kind
        for kind in vars(events).values()
        if isinstance(kind, type) and issubclass(kind, Event) and kind is not Event
    ]


def test_every_event_is_in_a_table():
    in_tables = {row.event for table in TABLES.values() for row in table.rows}
    assert in_tables - {sender.LifetimeOver} == set(all_events())


# --- Diagrams -----------------------------------------------------------------------------------


def test_the_diagrams_are_what_the_tables_say():
    from flow_lab import diagrams

    assert diagrams.PAGE.read_text(encoding="utf-8") == diagrams.text()


def test_every_state_is_in_its_diagram():
    from flow_lab import diagrams

    for section, states in NAMES.items():
        drawn = diagrams.diagram(TABLES[section])
        for name in states:
            assert re.search(rf"\b{name}\b", drawn), name


# --- Reasons ------------------------------------------------------------------------------------


def test_every_reason_that_is_counted_is_documented():
    package = PAGE.parents[1] / "bridge" / "flow"
    source = "\n".join(path.read_text(encoding="utf-8") for path in package.glob("*.py"))
    counted = set(re.findall(r'(?:count|_count)\("([a-z_.]+)"\)', source))
    counted |= set(re.findall(r'reason="([a-z_]+)"', source))
    counted |= {f"refused.{name}" for name in re.findall(r'refused="([a-z_]+)"', source)}
    counted |= {"refused.malformed_id", "refused.too_large", "refused.caller", "outdated"}
    page = (PAGE.parent / "flow" / "README.md").read_text(encoding="utf-8")
    assert len(counted) > 15
    assert {reason for reason in counted if f"`{reason}`" not in page} == set()
