"""Command line of `edge-convert`. Exit codes: 0 success, 1 failure, 2 wrong usage, 130 interrupted."""

from __future__ import annotations

import sys
import traceback
from typing import TYPE_CHECKING, Annotated

import typer

from agent.errors import AgentError, SignatureError
from agent.host.terminal import escape_unencodable, harmless, on_one_line, version_printer
from converter.commands.convert import convert
from converter.commands.evaluate import evaluate
from converter.commands.inspect import inspect
from converter.commands.signing import keygen, sign
from converter.commands.train import train
from converter.commands.watch import watch
from converter.errors import StoppedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

_INTERRUPTED = 130

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Train an image classifier, convert it to a .tflite file, evaluate it and sign it.",
)


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=version_printer("edge-convert"), is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Options given before a command."""


for command in (train, convert, evaluate, inspect, keygen, sign, watch):
    app.command()(command)


def main(words: Sequence[str] | None = None) -> None:
    """Entry point; `words` default to the arguments of the process.

    Expected errors print one sentence; --debug adds the traceback.
    """
    escape_unencodable()
    given = sys.argv[1:] if words is None else list(words)
    try:
        app(given, prog_name="edge-convert")
    except AgentError as error:
        _fail(str(error), _exit_code(error), debug="--debug" in given)
    except OSError as error:  # a path that cannot even be checked, for example for lack of permission
        _fail(f"{error.filename}: {error.strerror}.", 1, debug="--debug" in given)
    except SystemExit as end:
        if end.code == _INTERRUPTED:  # typer exits silently on Ctrl-C
            print("edge-convert: interrupted; no incomplete file was left behind.", file=sys.stderr)
        raise


def _exit_code(error: AgentError) -> int:
    if isinstance(error, StoppedError):
        return _INTERRUPTED
    return 2 if isinstance(error, UsageError | SignatureError) else 1


def _fail(sentence: str, code: int, *, debug: bool) -> None:
    if debug:
        print(harmless(traceback.format_exc()), end="", file=sys.stderr)
    print(f"edge-convert: {on_one_line(sentence)}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
