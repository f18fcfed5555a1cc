"""The process of one conversion of `edge-convert watch`: the command convert, which answers with one line of JSON."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from agent.host.plain_file import DISK_ERRORS
from agent.host.process import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Sequence

_TEMPORARY = DISK_ERRORS | {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM}


def main(words: Sequence[str]) -> None:
    """`words` are the process id of the parent and the arguments of convert."""
    with os.fdopen(os.dup(1), "w") as answer:
        os.dup2(2, 1)  # keeps tables out of the answer
        parent, *arguments = words
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.nice(10)
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")  # the kernel kills this process first
        if die_with_parent(int(parent)):
            json.dump(_outcome(arguments), answer)


def _outcome(arguments: Sequence[str]) -> dict[str, str]:
    """Any other error ends the process with a traceback and no answer."""
    import typer

    from agent.errors import AgentError
    from converter.commands.convert import convert

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(convert)
    try:
        app([*arguments], standalone_mode=False)
    except (AgentError, OSError) as error:
        return {"failed" if _is_temporary(error) else "refused": str(error)}
    except Exception as error:
        if hasattr(error, "format_message"):  # click's, of which typer may have its own copy
            return {"refused": str(error.format_message())}
        raise
    return {}


def _is_temporary(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in _TEMPORARY:
            return True
        error = error.__cause__ or error.__context__
    return False


if __name__ == "__main__":
    main(sys.argv[1:])
