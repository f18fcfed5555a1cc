"""Figures: what the fault tests measured, and how it is written into the tables of docs/reliability.md."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from agent.runtimes.interpreter import runtime

if TYPE_CHECKING:
    from pathlib import Path

BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"

_COLUMNS = ("test", "required", "measured", "date")


class Figures(Protocol):
    """Takes a row: what was tested, the required result (a bound, or "" for none) and the measured one.

    A row replaces the row with the same `test` in the document, so renaming it means renaming it there too.
    """

    def __call__(self, test: str, required: str, measured: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Row:
    test: str
    required: str
    measured: str
    date: str

    @classmethod
    def of_today(cls, test: str, required: str, measured: str) -> Row:
        return cls(_cell(test), _cell(required), _cell(measured), time.strftime("%Y-%m-%d", time.gmtime()))


def rewrite(document: Path, rows: list[Row]) -> None:
    """Updates this runtime's table: each row replaces the one with the same `test` or is added; others stay."""
    before, rest = document.read_text().split(BEGIN)
    text, after = rest.split(END)
    tables = _tables(text)
    table = tables.setdefault(_runtime(), {})
    table.update({row.test: row for row in rows})
    machines = {**_machines(text), _runtime(): _machine()}
    sections = [_section(name, machines[name], tables[name]) for name in sorted(tables)]
    document.write_text(f"{before}{BEGIN}\n\n" + "\n".join(sections) + f"\n{END}{after}")


def _tables(text: str) -> dict[str, dict[str, Row]]:
    """Each runtime's rows by their `test`, in the order of the document."""
    tables: dict[str, dict[str, Row]] = {}
    for section in text.split("\n### ")[1:]:
        name, *lines = section.splitlines()
        cells = [re.split(r" \| ", line.strip("| ")) for line in lines if line.startswith("| ")]
        rows = [Row(*each) for each in cells if len(each) == len(_COLUMNS) and tuple(each) != _COLUMNS]
        tables[name] = {row.test: row for row in rows}
    return tables


def _machines(text: str) -> dict[str, str]:
    return {found[1]: found[2] for found in re.finditer(r"^### (.+)\n\n(.+)$", text, re.MULTILINE)}


def _section(name: str, machine: str, rows: dict[str, Row]) -> str:
    lines = [f"| {row.test} | {row.required} | {row.measured} | {row.date} |" for row in rows.values()]
    head = f"| {' | '.join(_COLUMNS)} |\n|{'---|' * len(_COLUMNS)}"
    return "\n".join([f"### {name}\n\n{machine}\n\n{head}", *lines, ""])


def _runtime() -> str:
    return runtime().partition(" ")[0]


def _machine() -> str:
    opencv = importlib.metadata.version("opencv-python-headless")
    return (
        f"{runtime()}, OpenCV {opencv}, Python {platform.python_version()}, {platform.machine()}, "
        f"{os.cpu_count()} processors."
    )


def _cell(text: str) -> str:
    """On one line, without characters that would end a cell. An empty cell would break reading the row again."""
    return " ".join(text.replace("|", "/").split()) or "-"
