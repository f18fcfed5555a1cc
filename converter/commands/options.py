"""Options that several commands of edge-convert share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from converter.errors import UsageError

SourcePath = Annotated[
    Path, typer.Argument(metavar="SAVED_MODEL", help="SavedModel folder, .keras file, .h5 file, or a .zip of one.")
]
AllowCode = Annotated[
    bool,
    typer.Option("--allow-code", help="Run the Python code in a .keras or .h5 file. Only for files that you trust."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show TensorFlow's own messages and tracebacks.")]
Signature = Annotated[str | None, typer.Option(metavar="KEY", help="Signature to use if there are several.")]
InputSize = Annotated[
    str | None, typer.Option(metavar="HxW", help="Input height and width, if the model leaves them open.")
]
Report = Annotated[Path | None, typer.Option(metavar="FILE.html", help="Write the evaluation as HTML and as .json.")]
MaxDrop = Annotated[
    float | None, typer.Option(min=0, max=1, help="Fail if top-1 accuracy drops by more; 0.01 is 1 percentage point.")
]


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Height and width from --input-size. Raises UsageError."""
    if text is None:
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", text)
    if found is None:
        raise UsageError(f"--input-size {text} is not valid. Use the form HEIGHTxWIDTH, such as 224x224.")
    return int(found[1]), int(found[2])
