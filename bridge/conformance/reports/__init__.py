"""What a conformance run is told as: JSON, JUnit, Markdown, one HTML page; and whether it will do.

Knows records only: neither how a cell was played nor where a report is written.
"""

from bridge.conformance.reports.document import digest, read_document, schema, to_document
from bridge.conformance.reports.junit import to_junit
from bridge.conformance.reports.markdown import to_markdown
from bridge.conformance.reports.page import to_page
from bridge.conformance.reports.required import Requirements

__all__ = [
    "Requirements",
    "digest",
    "read_document",
    "schema",
    "to_document",
    "to_junit",
    "to_markdown",
    "to_page",
]
