"""The commands `edge-agent token ...`: make, list and revoke the access tokens of the HTTP API."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from agent.commands.options import ConfigFile, Json, service_settings, service_user
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

    settings = service_settings(config)
    path = _tokens_path(settings)
    is_first = not path.exists()
    token = create_token(path, name, scope, owner=service_user(settings))
    print(token)
    print(f"Added {name} to {path}. The token is not shown again.", file=sys.stderr)
    if is_first and not settings.http.anonymous:
        other = " or a certificate" if settings.http.client_ca else ""
        print(f"From now on, every client needs a token{other}, also on this machine.", file=sys.stderr)


@token_app.command("list")
def list_tokens(config: ConfigFile = None, as_json: Json = False) -> None:
    """List the names, scopes and creation times of the tokens."""
    from agent.security.tokens import read_tokens

    settings = service_settings(config)
    tokens = read_tokens(_tokens_path(settings))
    if as_json:
        print_json([asdict(token) for token in tokens])
    else:
        print_table(("name", "scope", "created at"), ((each.name, each.scope, each.created_at) for each in tokens))
    if settings.http.client_ca:
        print(f"Clients with a certificate signed by {settings.http.client_ca} need no token.", file=sys.stderr)


@token_app.command()
def revoke(name: Name, config: ConfigFile = None) -> None:
    """Revoke a token. A running agent refuses it at once."""
    from agent.security.tokens import read_tokens, revoke_token

    settings = service_settings(config)
    path = _tokens_path(settings)
    revoke_token(path, name, owner=service_user(settings))
    print(f"Revoked {name}.")
    if not read_tokens(path):
        clients = "all clients without a certificate" if settings.http.client_ca else "all clients"
        print(f"No token is left, so {clients} are refused. Make one, or remove {path} if only programs on this "
              "machine may use the agent without one.")  # fmt: skip


def _tokens_path(settings: Config) -> Path:
    from agent.wiring.access import tokens_path

    return tokens_path(settings)
