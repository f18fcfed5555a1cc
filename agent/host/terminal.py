"""Terminal: prints tables and JSON without control codes for the terminal."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING, Any

from agent.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def version_printer(program: str) -> Callable[[bool], None]:
    """The callback of the option --version of `program`; both programs are in the same distribution."""

    def show(wanted: bool) -> None:  # noqa: FBT001  (typer's)
        if wanted:
            import importlib.metadata

            from typer import Exit

            print(f"{program} {importlib.metadata.version('edge-agent')}")
            raise Exit

    return show


def escape_unencodable() -> None:
    """Makes standard output and standard error show an escape for a character that they cannot encode."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def print_json(document: Any) -> None:
    print(json.dumps(document, indent=2))


def print_table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=any(head))
    for name in head:
        table.add_column(name, overflow="fold")  # a truncated name could not be copied
    for row in rows:
        table.add_row(*(Text(on_one_line(cell)) for cell in row))
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def print_finding(level: str, about: str, fact: str, remedy: str | None) -> None:
    """Prints the remedy on a separate line, so that it can be copied whole."""
    print(f"{level:8} {about:15} {harmless(fact)}", flush=True)
    if remedy:
        print(f"{'':25}{harmless(remedy)}", flush=True)


def on_one_line(text: str) -> str:
    """Replaces control codes and line breaks: names and file contents may come from any user."""
    return printable(text, instead="?")


def harmless(text: str) -> str:
    """Replaces control codes in each of several lines, such as a traceback."""
    return "\n".join(map(on_one_line, text.split("\n")))
