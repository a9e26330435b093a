"""``ic-bridge timeline``: a run's message trace as a picture."""

from typing import IO

import click

from bridge.monitor import draw_timeline, read_trace


@click.command()
@click.argument("trace", type=click.File("r", encoding="utf-8"))
@click.option(
    "-o",
    "--output",
    type=click.File("w", encoding="utf-8"),
    default="-",
    help="SVG file; - is stdout.",
)
@click.option("--columns", type=click.IntRange(1, 6), default=2, help="Flows side by side.")
def timeline(trace: IO[str], output: IO[str], columns: int) -> None:
    """Draw TRACE (JSON lines, - for standard input) as sequence diagrams, one panel a flow."""
    output.write(draw_timeline(read_trace(trace), columns=columns))
