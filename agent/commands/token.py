"""The commands `edge-agent token ...`: make, list and revoke the access tokens of the HTTP API."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from agent.commands.options import ConfigFile, Json
from agent.host.terminal import print_json, print_table

if TYPE_CHECKING:
    from pathlib import Path

    from agent.config.sections import Config

token_app = typer.Typer(no_args_is_help=True, help="Make, list and revoke the access tokens of the HTTP API.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the token, such as the client that uses it.")]


@token_app.command()
def create(
    name: Name,
    scope: Annotated[
        Literal["read", "infer", "admin"],
        typer.Option(
            "--scope",
            help="What the token allows. read: status and metrics; infer: also classify; admin: also change models.",
        ),
    ],
    config: ConfigFile = None,
) -> None:
    """Make a token and print it, this once. A running agent accepts it at once."""
    from agent.security.tokens import create_token

    settings, path = _settings(config)
    is_first = not path.exists()
    token = create_token(path, name, scope, owner=_service_user(settings))
    print(token)
    print(f"Added {name} to {path}. The token is not shown again.", file=sys.stderr)
    if is_first and not settings.http.anonymous:
        print("From now on, every client needs a token, also on this machine.", file=sys.stderr)


@token_app.command("list")
def list_tokens(config: ConfigFile = None, as_json: Json = False) -> None:
    """List the names, scopes and creation times of the tokens."""
    from agent.security.tokens import read_tokens

    tokens = read_tokens(_settings(config)[1])
    if as_json:
        print_json([asdict(token) for token in tokens])
    else:
        print_table(("name", "scope", "created at"), ((each.name, each.scope, each.created_at) for each in tokens))


@token_app.command()
def revoke(name: Name, config: ConfigFile = None) -> None:
    """Revoke a token. A running agent refuses it at once."""
    from agent.security.tokens import read_tokens, revoke_token

    settings, path = _settings(config)
    revoke_token(path, name, owner=_service_user(settings))
    print(f"Revoked {name}.")
    if not read_tokens(path):
        print(f"No token is left, so all clients are refused. Make one, or remove {path} if only programs on this "
              "machine may use the agent without one.")  # fmt: skip


def _settings(config: Path | None) -> tuple[Config, Path]:
    """The configuration of the service, if it is installed and `config` is None; and its tokens file."""
    from agent.config.load import load_config
    from agent.doctor.unit import INSTALLED
    from agent.wiring.access import tokens_path

    settings = load_config(INSTALLED.stand_in(config))
    return settings, tokens_path(settings)


def _service_user(settings: Config) -> tuple[int, int] | None:
    """The owner of the state folder, to whom root must give the file; None if another user runs the command."""
    folder = settings.device.state_folder
    if os.geteuid() != 0 or not folder.exists():
        return None
    status = folder.stat()
    return status.st_uid, status.st_gid
