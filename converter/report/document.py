"""Document: the frame and the parts that the reports share."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element, tostring

from converter.output import write_whole
from converter.report.charts import STYLE, element

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path


def write_page(path: Path, page: Element, figures: Mapping[str, Any]) -> None:
    """Write the page, and its figures next to it with the extension .json. Raises ConverterError.

    File names in it may be invalid UTF-8.
    """
    text = tostring(page, encoding="unicode", method="html")
    write_whole(path, f"<!DOCTYPE html>\n{text}\n".encode("utf-8", "backslashreplace"))
    figures_text = json.dumps(figures, ensure_ascii=False, indent=2) + "\n"
    write_whole(path.with_suffix(".json"), figures_text.encode("utf-8", "backslashreplace"))


def document(title: str, verdict: str, sections: Iterable[Element]) -> Element:
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", STYLE),
    )
    body = element("main", element("h1", title), element("p", verdict, class_="verdict"), *sections)
    return element("html", head, element("body", body), lang="en")


def counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}{'es' if noun.endswith('s') else 's'}"


def size_text(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def section(heading: str, *children: Element) -> Element:
    return element("section", element("h2", heading), *children)


def wide(content: Element, name: str) -> Element:
    """A region that scrolls sideways on a narrow page, also by keyboard."""
    return element("div", content, class_="wide", tabindex="0", role="region", aria_label=name)


def table(head: Sequence[Element | str], rows: Iterable[Sequence[Element | str]], **attributes: str) -> Element:
    """The first cell of a row is its heading; an empty cell of `head` is not a heading."""
    columns = [element("td") if cell == "" else element("th", cell, scope="col") for cell in head]
    return element(
        "table",
        element("thead", element("tr", *columns)),
        element(
            "tbody",
            *(
                element("tr", element("th", first, scope="row"), *(element("td", cell) for cell in rest))
                for first, *rest in rows
            ),
        ),
        **attributes,
    )


def facts_section(facts: Mapping[str, str]) -> Element | None:
    if not facts:
        return None
    rows = (element("tr", element("th", key, scope="row"), element("td", value)) for key, value in facts.items())
    return section("Conditions", element("table", element("tbody", *rows), class_="facts"))
