"""Options: arguments and options of several commands, and reading the files that they name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.errors import AgentError
from agent.host.access import explain

if TYPE_CHECKING:
    from agent.model_file.settings import ModelSettings

# readable=False leaves it to the commands to say, in a sentence, that a file may not be read and what to do.
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="Configuration file (YAML). Without it, the defaults and the environment apply.",
        readable=False,
    ),
]
ModelPath = Annotated[Path, typer.Argument(metavar="MODEL", help="Model file (.tflite).", readable=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise AgentError(f"{path} cannot be read: {explain(error, path)}") from None


def with_labels_beside(settings: ModelSettings, model: Path) -> ModelSettings:
    """With the labels of a labels.txt next to the model if they have none and the folder has no other model.

    Raises ModelError.
    """
    from agent.model_file.settings import LABELS_TXT, read_label_file
    from agent.models.listing import model_name

    try:
        is_alone = sum(model_name(path.name) is not None for path in model.absolute().parent.iterdir()) == 1
    except OSError:  # it may be allowed to open files there, but not to list them
        is_alone = False
    if settings.labels is not None or not is_alone:
        return settings
    return settings.overridden_by(read_label_file(model.with_name(LABELS_TXT)))
