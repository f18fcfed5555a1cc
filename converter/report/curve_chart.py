"""Curve chart: lines from 0 % to 100 %, as inline SVG."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from converter.report.charts import clip, element

if TYPE_CHECKING:
    from collections.abc import Sequence
    from xml.etree.ElementTree import Element

    import numpy as np
    import numpy.typing as npt

    Floats: TypeAlias = npt.NDArray[np.float32]

_LEFT, _TOP, _WIDTH, _HEIGHT, _NAMES = 48, 12, 260, 200, 190
_LINE = 16  # height of a name


def curve_chart(at: Sequence[float], names: Sequence[str], lines: Sequence[tuple[str, Floats]]) -> Element:
    """`at`: positions from 0 to 1 with their names; each line has a name and values, 0 to 1, at the first of them.

    The first line is the most important.
    """
    return element(
        "svg",
        element("title", "; ".join(_spoken(name, values, names) for name, values in lines)),
        *_grid(at, names),
        *(_line(at, name, values, first=number == 0) for number, (name, values) in reversed(list(enumerate(lines)))),
        *_labels(at, lines),
        viewBox=f"0 0 {_LEFT + _WIDTH + _NAMES} {_TOP + _HEIGHT + 36}",
        role="img",
        class_="curve",
    )


def _spoken(name: str, values: Floats, names: Sequence[str]) -> str:
    points = (f"{100 * value:.0f} % at {where}" for value, where in zip(values.tolist(), names, strict=False) if where)
    return f"{name}: {', '.join(points)}"


def _grid(at: Sequence[float], names: Sequence[str]) -> list[Element]:
    drawn = []
    for step in range(0, 101, 25):
        y = _y(step / 100)
        drawn += [
            element("path", d=f"M{_LEFT} {y}h{_WIDTH}", class_="grid"),
            element("text", f"{step} %", x=_LEFT - 8, y=y + 4, text_anchor="end"),
        ]
    for position, name in zip(at, names, strict=True):
        anchor = "end" if position == 1 else "middle"
        drawn.append(element("text", name, x=_x(position), y=_TOP + _HEIGHT + 24, text_anchor=anchor, class_="axis"))
    return drawn


def _line(at: Sequence[float], name: str, values: Floats, *, first: bool) -> Element:
    points = [f"{_x(position):.1f} {_y(value):.1f}" for position, value in zip(at, values.tolist(), strict=False)]
    return element("path", element("title", name), d="M" + "L".join(points), class_="line first" if first else "line")


def _labels(at: Sequence[float], lines: Sequence[tuple[str, Floats]]) -> list[Element]:
    """Names at the right ends, moved apart if they would overlap."""
    order = sorted(range(len(lines)), key=lambda number: -float(lines[number][1][-1]))
    drawn, lowest = [], float(_TOP - _LINE)
    for number in order:
        name, values = lines[number]
        y = max(_y(float(values[-1])) + 4, lowest + _LINE)
        lowest = y
        text = f"{clip(name, 18)} {100 * float(values[-1]):.0f} %"
        drawn.append(element("text", text, x=_x(at[-1]) + 8, y=f"{y:.1f}", class_="first" if number == 0 else "axis"))
    return drawn


def _x(share: float) -> float:
    return _LEFT + _WIDTH * share


def _y(value: float) -> float:
    return _TOP + _HEIGHT * (1 - value)
