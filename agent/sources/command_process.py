"""Command process: becomes the program of a camera, which the kernel then kills when the agent ends.

Its arguments are the process id of the agent, the program and the program's arguments.
"""

from __future__ import annotations

import os
import sys

from agent.host.process import die_with_parent

CANNOT_RUN = 126  # as in a shell


def main() -> None:
    parent, *run = sys.argv[1:]
    if not die_with_parent(int(parent)):
        return
    try:
        os.execvp(run[0], run)  # noqa: S606  (the configuration names the program)
    except OSError as error:
        sys.stderr.write(f"It cannot be run: {error.strerror}\n")
        sys.exit(CANNOT_RUN)


if __name__ == "__main__":
    main()
