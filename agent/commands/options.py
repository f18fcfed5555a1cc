"""Options: arguments and options of several commands, and reading the files that they name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.errors import AgentError, ConfigError
from agent.host.access import explain

if TYPE_CHECKING:
    from agent.config.sections import Config
    from agent.model_file.model import Model
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
ModelPath = Annotated[
    Path, typer.Argument(metavar="MODEL", help="Model file (.tflite) or SavedModel folder.", readable=False)
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        help="File with an access token for the agent. Default: the variable EDGE_AGENT_TOKEN.",
        readable=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def access_token(file: Path | None) -> str | None:
    """The token in `file`, or the one in the environment; None without both. Raises ConfigError."""
    if file is None and not os.environ.get("EDGE_AGENT_TOKEN"):
        return None
    try:
        token = os.environ["EDGE_AGENT_TOKEN"] if file is None else file.read_text(encoding="utf-8-sig")
        token.strip().encode("ascii")
    except OSError as error:
        raise ConfigError(f"--token-file {file} cannot be read: {explain(error, Path(str(file)))}") from None
    except ValueError:
        token = ""
    if len(token.split()) != 1 or not token.strip().isprintable():
        raise ConfigError(f"{file or 'EDGE_AGENT_TOKEN'} is not an access token. Put one there, without other text.")
    return token.strip()


def service_settings(config: Path | None) -> Config:
    """The configuration of the service, if it is installed and `config` is None."""
    from agent.config.load import load_config
    from agent.doctor.unit import INSTALLED

    return load_config(INSTALLED.stand_in(config))


def service_user(settings: Config) -> tuple[int, int] | None:
    """The owner of the state folder, to whom root must give the file; None if another user runs the command."""
    folder = settings.device.state_folder
    if os.geteuid() != 0 or not folder.exists():
        return None
    status = folder.stat()
    return status.st_uid, status.st_gid


def read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise AgentError(f"{path} cannot be read: {explain(error, path)}") from None


def read_stored(path: Path) -> Model:
    """The model in a file or in the folder of a SavedModel. Raises AgentError."""
    from agent.model_file.model import read_model

    try:
        return read_model(path if path.is_dir() else read_file(path))
    except OSError as error:
        raise AgentError(f"{error.filename} cannot be read: {explain(error, path)}") from None


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
    if settings.labels is not None or not is_alone or model.is_dir():
        return settings
    return settings.overridden_by(read_label_file(model.with_name(LABELS_TXT)))
