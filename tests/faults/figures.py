"""Figures: what the fault tests measured, and the tables of docs/reliability.md that tell it."""

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

_COLUMNS = ("what", "asked", "measured", "on")


class Figures(Protocol):
    """Takes a row: what was done, what is asked of that (a bound, or "" for none), what came of it."""

    def __call__(self, what: str, asked: str, measured: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Row:
    what: str
    asked: str
    measured: str
    on: str

    @classmethod
    def of_today(cls, what: str, asked: str, measured: str) -> Row:
        return cls(_cell(what), _cell(asked), _cell(measured), time.strftime("%Y-%m-%d", time.gmtime()))


def rewrite(document: Path, rows: list[Row]) -> None:
    """Puts the rows into this runtime's table, each in the place of the one that told the same; others stay."""
    before, rest = document.read_text().split(BEGIN)
    told, after = rest.split(END)
    tables = _tables(told)
    table = tables.setdefault(_runtime(), {})
    table.update({row.what: row for row in rows})
    machines = {**_machines(told), _runtime(): _machine()}
    sections = [_section(name, machines[name], tables[name]) for name in sorted(tables)]
    document.write_text(f"{before}{BEGIN}\n\n" + "\n".join(sections) + f"\n{END}{after}")


def _tables(told: str) -> dict[str, dict[str, Row]]:
    """Each runtime's rows, by what they tell, in the order in which they stand there."""
    tables: dict[str, dict[str, Row]] = {}
    for section in told.split("\n### ")[1:]:
        name, *lines = section.splitlines()
        cells = [re.split(r" \| ", line.strip("| ")) for line in lines if line.startswith("| ")]
        rows = [Row(*each) for each in cells if len(each) == len(_COLUMNS) and tuple(each) != _COLUMNS]
        tables[name] = {row.what: row for row in rows}
    return tables


def _machines(told: str) -> dict[str, str]:
    return {found[1]: found[2] for found in re.finditer(r"^### (.+)\n\n(.+)$", told, re.MULTILINE)}


def _section(name: str, machine: str, rows: dict[str, Row]) -> str:
    lines = [f"| {row.what} | {row.asked} | {row.measured} | {row.on} |" for row in rows.values()]
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
    """On one line, and without what would end a cell; "" would make a row that is not read again."""
    return " ".join(text.replace("|", "/").split()) or "-"
