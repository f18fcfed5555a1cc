"""Options that several commands of edge-convert share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from converter.errors import UsageError

SourcePath = Annotated[
    Path, typer.Argument(metavar="SAVED_MODEL", help="A SavedModel folder, a .keras or an .h5 file.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show TensorFlow's own messages, and tracebacks.")]
Signature = Annotated[str | None, typer.Option(metavar="KEY", help="Of several signatures, the one to take.")]
InputSize = Annotated[
    str | None, typer.Option(metavar="HxW", help="Height and width, where the model leaves them open.")
]
Report = Annotated[Path | None, typer.Option(metavar="FILE.html", help="Write the evaluation as a page, and as .json.")]
MaxDrop = Annotated[
    float | None, typer.Option(min=0, max=1, help="Refuse when top-1 falls by more: 0.01 is one point in a hundred.")
]


def parse_size(text: str | None) -> tuple[int, int] | None:
    """What --input-size says: height and width. UsageError."""
    if text is None:
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", text)
    if found is None:
        raise UsageError(f"--input-size {text} is not HEIGHTxWIDTH, such as 224x224.")
    return int(found[1]), int(found[2])
