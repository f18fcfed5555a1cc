"""Extra: how an optional part of edge-agent is added to the environment that runs this process."""

from __future__ import annotations

import sys


def command_that_adds(extra: str) -> str:
    """With this interpreter, since pip of another one would fetch what PyPI has under the name edge-agent."""
    return f"{sys.executable} -m pip install 'edge-agent[{extra}]'"
