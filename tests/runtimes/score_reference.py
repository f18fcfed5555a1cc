"""Reference for the kind of scores, written from its definition."""

from __future__ import annotations


def reference(rows: list[list[float]], step: float) -> str:
    """The definition of the issue, value by value."""
    values, slack = [value for row in rows for value in row], step + 1e-6
    if all(-slack <= value <= 1 + slack for value in values):
        near = 0.02 + step / 2 * len(rows[0])
        return "distribution" if all(abs(sum(row) - 1) <= near for row in rows) else "independent"
    slack = step + 1e-4
    if all(-slack <= value <= 100 + slack for value in values) and all(abs(sum(row) - 100) <= 2 for row in rows):
        return "percent"
    return "logits"
