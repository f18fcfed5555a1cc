"""The command line `edge-agent`. Exit codes: 0 success, 1 failure, 2 wrong usage or configuration."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from agent.commands.cameras import cameras
from agent.commands.certificate import certificate
from agent.commands.check_config import check_config
from agent.commands.classify import bench, classify
from agent.commands.doctor import doctor
from agent.commands.inspect import inspect
from agent.commands.models import models_app
from agent.commands.run import run
from agent.commands.token import token_app
from agent.errors import AgentError, ConfigError
from agent.host.terminal import escape_unencodable, version_printer

if TYPE_CHECKING:
    from collections.abc import Sequence

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help="Classify images on this device."
)


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=version_printer("edge-agent"), is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Options before the command."""


app.command()(run)
app.command("check-config")(check_config)
app.command()(doctor)
app.command()(cameras)
app.command()(classify)
app.command()(inspect)
app.command()(bench)
app.add_typer(models_app, name="models")
app.add_typer(token_app, name="token")
app.command()(certificate)


def main(words: Sequence[str] | None = None) -> None:
    """The entry point; `words` default to the arguments of the process.

    Errors that the user can act on are printed as one sentence, without a traceback.
    """
    escape_unencodable()
    try:
        app(words, prog_name="edge-agent")
    except AgentError as error:
        print(f"edge-agent: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, ConfigError) else 1)


if __name__ == "__main__":
    main()
