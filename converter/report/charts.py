"""Charts: the graphics of a report, as inline SVG and data URIs, and its style sheet."""

from __future__ import annotations

import base64
import unicodedata
from typing import TYPE_CHECKING, TypeAlias
from xml.etree.ElementTree import Element

import cv2
import numpy as np

from agent.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

    from converter.evaluation.calibration_error import Reliability
    from converter.images.image_folder import FoundImage

    Floats: TypeAlias = npt.NDArray[np.float32]
    Ints: TypeAlias = npt.NDArray[np.int64]
    Flags: TypeAlias = npt.NDArray[np.bool_]

_NAMES_LEFT, _NAMES_ABOVE, _NAMES_COLUMNS = 152, 132, 18
_PLOT, _PLOT_LEFT, _PLOT_TOP = 400, 52, 12
_THUMBNAIL_SIDE = 160

STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --card: #f5f7f9; --text: #1b1f24; --soft: #57606a; --line: #d4dae1;
  --model: #0b57b0; --source: #7b8694; --wrong: #b54708; }
@media (prefers-color-scheme: dark) { :root { --page: #12151a; --card: #1b2027; --text: #e6e9ee; --soft: #9aa4b0;
  --line: #343b45; --model: #6aa9ff; --source: #8791a0; --wrong: #e8873f; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 0.75rem; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 0.5rem; }
p { margin: 0 0 0.75rem; max-width: 44rem; text-wrap: pretty; }
.verdict { font-size: 1.15rem; padding: 0.75rem 1rem; background: var(--card); border-left: 4px solid var(--model); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.3rem 0.75rem 0.3rem 0; border-bottom: 1px solid var(--line); text-align: left; font-weight: 400; }
thead th { color: var(--soft); font-size: 0.875rem; vertical-align: bottom;
  overflow-wrap: normal; }
tbody th { color: var(--soft); }
.facts th { min-width: 8rem; vertical-align: top; }
.figures { width: 100%; }
.figures thead th { font-size: 1rem; font-weight: 600; color: var(--text); }
.figures td { min-width: 6.5rem; }
.figures small { display: block; font-weight: 400; color: var(--soft); }
.f1 { width: 100%; }
.f1 th:first-child { width: 30%; }
.f1 tbody th { color: var(--text); }
.f1 :is(th, td):nth-child(n + 3) { width: 5rem; padding-right: 0; text-align: right; }
.f1.recalls :is(th, td):nth-child(n + 3) { width: 6.5rem; }
.f1 .key { margin: 0; white-space: normal; }
.wide { overflow-x: auto; }
.wide td, .wide th { overflow-wrap: normal; }
.wide tbody th { min-width: 9rem; max-width: 20rem; overflow-wrap: anywhere; }
details { margin-top: 1rem; }
summary { cursor: pointer; padding: 0.5rem 0; }
svg { display: block; font-size: 12px; }
svg text { fill: var(--text); unicode-bidi: isolate; }
svg .axis { fill: var(--soft); }
.grid { stroke: var(--line); fill: none; }
.right rect { fill: var(--model); }
.wrong rect { fill: var(--wrong); }
.bars { width: 100%; }
.bar.source, .key.source { fill: var(--source); --key: var(--source); }
.bar.model, .key.model { fill: var(--model); --key: var(--model); }
.key { white-space: nowrap; margin-right: 1rem; --key: var(--model); }
.key.changed { --key: var(--wrong); }
.key::before { content: ""; display: inline-block; width: 0.7em; height: 0.7em; margin-right: 0.4em;
  background: var(--key); }
.key.same::before { border-radius: 50%; }
.key.changed::before { transform: rotate(45deg); }
.scatter { width: 100%; max-width: 32rem; font-size: 13px; }
.curve { width: 100%; max-width: 36rem; font-size: 13px; }
.line { stroke: var(--source); stroke-width: 2; fill: none; }
.line.first { stroke: var(--model); stroke-width: 3.5; }
svg text.first { fill: var(--model); font-weight: 600; }
.diagonal { stroke: var(--soft); stroke-dasharray: 5 4; }
.same { fill: var(--model); fill-opacity: 0.45; }
path.changed { fill: var(--wrong); stroke: var(--page); }
.reliability { width: 100%; max-width: 32rem; font-size: 13px; }
.curve { fill: none; stroke-width: 2; }
.curve.source { stroke: var(--source); }
.curve.model { stroke: var(--model); }
circle.source { fill: var(--source); }
circle.model { fill: var(--model); }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(10.5rem, 1fr)); gap: 0.75rem; }
figure { margin: 0; padding: 0.6rem; background: var(--card); border-radius: 6px; font-size: 0.875rem; }
figure img, .missing { display: block; width: 100%; height: 160px; object-fit: contain; }
.missing { color: var(--soft); }
figcaption p { margin: 0.5rem 0 0.25rem; color: var(--soft); }
dl { display: grid; grid-template-columns: auto 1fr; gap: 0 0.6rem; margin: 0; }
dt { color: var(--soft); }
dd { margin: 0; unicode-bidi: isolate; }
"""


def element(tag: str, *children: Element | str, **attributes: object) -> Element:
    """Text is escaped when the tree is written. `class_` becomes class, `text_anchor` becomes text-anchor."""
    node = Element(tag, {name.rstrip("_").replace("_", "-"): str(value) for name, value in attributes.items()})
    for child in children:
        if isinstance(child, Element):
            node.append(child)
        elif len(node):
            node[-1].tail = (node[-1].tail or "") + child
        else:
            node.text = (node.text or "") + child
    return node


def clip(text: str, columns: int) -> str:
    """On one line, cut with … if wider than `columns` Latin letters; a Chinese character is two letters wide."""
    text = " ".join(text.split())
    width = 0
    for at, letter in enumerate(text):
        width += _columns(letter)
        if width > columns:
            return f"{text[: at - 1]}…"
    return text


def _columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def confusion_chart(counts: Ints, shares: Floats, names: Sequence[str], *, rows: str) -> Element:
    """A square of counts, colored by `shares`, 0 to 1; `rows` says what a row stands for."""
    side = max(24, min(44, 600 // len(names)), 12 + 7 * len(str(counts.max())))
    end = side * len(names)
    longest = min(_NAMES_COLUMNS, max(map(_columns, names)))
    left, top = max(0, _NAMES_LEFT - 12 - 8 * max(longest, 9)), max(0, _NAMES_ABOVE - 20 - 7 * max(longest, 4))
    width, height = _NAMES_LEFT + end + 4 + 4 * longest - left, _NAMES_ABOVE + end + 4 - top
    return element(
        "svg",
        element("title", f"Confusion matrix: {rows} in rows, the finished model's answer in columns"),
        element("path", d=_grid(len(names), side), class_="grid"),
        *_names_of_rows(names, side),
        *_names_of_columns(names, side),
        *_cells(counts, shares, names, side),
        element("text", f"{rows} ↓", x=_NAMES_LEFT - 8, y=_NAMES_ABOVE - 10, text_anchor="end", class_="axis"),
        element("text", "answer →", x=_NAMES_LEFT - 8, y=_NAMES_ABOVE - 28, text_anchor="end", class_="axis"),
        viewBox=f"{left} {top} {width} {height}",
        width=width,
        height=height,
        role="img",
    )


def _grid(count: int, side: int) -> str:
    end = count * side
    across = (f"M{_NAMES_LEFT} {_NAMES_ABOVE + at}h{end}" for at in range(0, end + 1, side))
    down = (f"M{_NAMES_LEFT + at} {_NAMES_ABOVE}v{end}" for at in range(0, end + 1, side))
    return "".join((*across, *down))


def _names_of_rows(names: Sequence[str], side: int) -> list[Element]:
    return [
        element(
            "text",
            element("title", name),
            clip(name, _NAMES_COLUMNS),
            x=_NAMES_LEFT - 8,
            y=_NAMES_ABOVE + side * row + side // 2 + 4,
            text_anchor="end",
        )
        for row, name in enumerate(names)
    ]


def _names_of_columns(names: Sequence[str], side: int) -> list[Element]:
    return [
        element(
            "text",
            element("title", name),
            clip(name, _NAMES_COLUMNS),
            transform=f"translate({_NAMES_LEFT + side * column + side // 2 + 4} {_NAMES_ABOVE - 8}) rotate(-60)",
        )
        for column, name in enumerate(names)
    ]


def _cells(counts: Ints, shares: Floats, names: Sequence[str], side: int) -> list[Element]:
    cells = []
    for row, column in np.argwhere(counts).tolist():
        x, y, count = _NAMES_LEFT + side * column, _NAMES_ABOVE + side * row, str(counts[row, column])
        opacity = 0.1 + 0.45 * shares[row, column]  # with a stronger color, the text on it would be hard to read
        cells.append(
            element(
                "g",
                element("title", f"{clip(names[row], 60)} classified as {clip(names[column], 60)}: {count}"),
                element("rect", x=x, y=y, width=side, height=side, fill_opacity=f"{opacity:.2f}"),
                element("text", count, x=x + side / 2, y=y + side // 2 + 4, text_anchor="middle"),
                class_="right" if row == column else "wrong",
            )
        )
    return cells


def bars(shares: Sequence[tuple[str, float]]) -> Element:
    """Horizontal bars below each other; `shares` are (CSS class, width from 0 to 1)."""
    return element(
        "svg",
        *(
            element("rect", class_=f"bar {name}", y=9 * at, width=f"{100 * share:.1f}", height=8)
            for at, (name, share) in enumerate(shares)
        ),
        viewBox=f"0 0 100 {9 * len(shares)}",
        height=9 * len(shares),
        preserveAspectRatio="none",
        aria_hidden="true",
        class_="bars",
    )


def scatter_chart(x: Floats, y: Floats, changed: Flags, names: Sequence[str]) -> Element:
    """One point per image, changed ones on top as diamonds; scores from 0 to 1; names are shown as tooltips."""
    across, down = _PLOT_LEFT + _PLOT * x, _PLOT_TOP + _PLOT * (1 - y)
    points = [_point(across[at], down[at], changed[at], names[at]) for at in np.argsort(changed, kind="stable")]
    title = "The finished model's score over the source's score, one point per image"
    return _square_plot(title, _scales("source's score", "finished model's score"), points, kind="scatter")


def _point(x: float, y: float, changed: bool, name: str) -> Element:  # noqa: FBT001  (one bit of the data)
    title = element("title", name)
    if changed:
        return element("path", title, d=f"M{x:.1f} {y - 6:.1f}l6 6-6 6-6-6z", class_="changed")
    return element("circle", title, cx=f"{x:.1f}", cy=f"{y:.1f}", r=3.5, class_="same")


def reliability_chart(curves: Sequence[tuple[str, Reliability]]) -> Element:
    """The share of right answers over the mean best score of each bin; `curves` are (CSS class, reliability)."""
    title = "The share of right answers over the score; on the diagonal, scores mean what they say"
    drawn = [each for name, reliability in curves for each in _curve(name, reliability)]
    return _square_plot(title, _scales("score of the answer", "share of right answers"), drawn, kind="reliability")


def _square_plot(title: str, scales: Iterable[Element], drawn: Iterable[Element], *, kind: str) -> Element:
    """Two values from 0 to 1 against each other, with the diagonal on which they are equal; `kind` is a CSS class."""
    diagonal = f"M{_PLOT_LEFT} {_PLOT_TOP + _PLOT}l{_PLOT} -{_PLOT}"
    return element(
        "svg",
        element("title", title),
        *scales,
        element("path", d=diagonal, class_="diagonal"),
        *drawn,
        viewBox=f"0 0 {_PLOT_LEFT + _PLOT + 16} {_PLOT_TOP + _PLOT + 52}",
        role="img",
        class_=kind,
    )


def _curve(name: str, reliability: Reliability) -> list[Element]:
    """A line with a circle for each bin, larger if more images are in it."""
    places = [(_PLOT_LEFT + _PLOT * each.score, _PLOT_TOP + _PLOT * (1 - each.right)) for each in reliability.bins]
    line = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    circles = []
    for each, (x, y) in zip(reliability.bins, places, strict=True):
        said = f"{each.images} images with a score of {each.score:.2f} on average: {100 * each.right:.0f} % are right"
        radius = 3 + 9 * (each.images / reliability.images) ** 0.5
        circles.append(
            element("circle", element("title", said), cx=f"{x:.1f}", cy=f"{y:.1f}", r=f"{radius:.1f}", class_=name)
        )
    return [element("path", d=f"M{line}", class_=f"curve {name}"), *circles]


def _scales(across: str, up: str) -> list[Element]:
    bottom, middle = _PLOT_TOP + _PLOT, _PLOT_LEFT + _PLOT / 2
    drawn = [
        element("text", across, x=middle, y=bottom + 44, text_anchor="middle", class_="axis"),
        element(
            "text",
            up,
            transform=f"translate(14 {bottom - _PLOT / 2}) rotate(-90)",
            text_anchor="middle",
            class_="axis",
        ),
    ]
    for step in range(0, 101, 25):
        at = _PLOT * step // 100
        drawn += [
            element(
                "path", d=f"M{_PLOT_LEFT + at} {_PLOT_TOP}v{_PLOT}M{_PLOT_LEFT} {bottom - at}h{_PLOT}", class_="grid"
            ),
            element("text", f"{step / 100:g}", x=_PLOT_LEFT + at, y=bottom + 20, text_anchor="middle"),
            element("text", f"{step / 100:g}", x=_PLOT_LEFT - 8, y=bottom - at + 4, text_anchor="end"),
        ]
    return drawn


def thumbnail(found: FoundImage, name: str) -> Element:
    """A small JPEG of the image, or a text if the file can no longer be read."""
    try:
        image = found.read(smallest_side=_THUMBNAIL_SIDE).to_color("bgr")
    except AgentError:
        return element("span", "can no longer be read", class_="missing")
    scale = min(1.0, _THUMBNAIL_SIDE / max(image.width, image.height))
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    small = cv2.resize(image.pixels, size, interpolation=cv2.INTER_AREA)
    _, content = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 80])
    uri = f"data:image/jpeg;base64,{base64.b64encode(content.tobytes()).decode()}"
    return element("img", src=uri, alt=f"Image {name}", width=size[0], height=size[1])
