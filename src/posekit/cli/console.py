"""What a person or a program sees: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import logging
import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table as RichTable

if TYPE_CHECKING:
    from posekit.stages.report import StageReport, Table


def set_up_logging(verbose: bool) -> None:
    """Sends posekit's log lines to stderr; only warnings unless `verbose`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("posekit")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.DEBUG if verbose else logging.WARNING)


def say(message: str) -> None:
    """One line on stderr."""
    Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(message)


def print_json(value: Any) -> None:
    """Machine-readable output on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """A table on stdout; numbers are aligned to the right."""
    table = RichTable(
        title=title or None, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False
    )
    for index, column in enumerate(columns):
        numeric = rows and all(_is_number(row[index]) for row in rows)
        # The names of rows stay whole, whatever the width of the terminal.
        table.add_column(column, justify="right" if numeric else "left", overflow="fold", no_wrap=index == 0)
    for row in rows:
        table.add_row(*row)
    console = Console(markup=False, highlight=False)
    console.print(table, markup=False)
    console.print()


def print_report(report: StageReport) -> None:
    """The outcome of a stage, for people."""
    for table in report.tables:
        print_report_table(table)
    if report.metrics and not report.tables:
        print_table("", ["metric", "value"], [[name, format_number(value)] for name, value in report.metrics.items()])
    counts = {name: count for name, count in report.counts.items() if count}
    if counts:
        print_table("", ["count of", ""], [[name.replace("_", " "), str(count)] for name, count in counts.items()])
    for note in report.notes:
        say(f"note: {note}")
    verb = "up to date" if report.skipped else "wrote"
    for path in report.outputs:
        sys.stdout.write(f"{report.stage}: {verb} {path}\n")


def print_report_table(table: Table) -> None:
    """One table of a report."""
    print_table(table.title, list(table.columns), [list(row) for row in table.rows])


def format_number(value: float) -> str:
    """A number with about four figures."""
    if value == int(value) and abs(value) < 1e9:
        return str(int(value))
    return f"{value:.4g}"


def _is_number(text: str) -> bool:
    try:
        float(text.rstrip("%"))
    except ValueError:
        return False
    return True
