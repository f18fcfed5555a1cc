"""The documents that people read: the commands in them and what each prints."""

from __future__ import annotations

import os
import re
import subprocess
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

REPOSITORY = Path(__file__).parents[1]
DOCUMENTS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]

# The pages that need an installed service, in an order that works; tests/system runs their commands.
ON_A_BOARD = [
    REPOSITORY / "docs" / page
    for page in (
        "tutorial/first-label.md",
        "how-to/cameras.md",
        "how-to/broker.md",
        "how-to/permissions.md",
        "how-to/access.md",
        "how-to/https.md",
        "how-to/sign.md",
        "how-to/fix-problems.md",
        "how-to/upgrade.md",
        "how-to/offline-board.md",
    )
]

# The pages whose commands need an agent beside TensorFlow; tests/with_tensorflow runs them.
SAVED_MODEL_GUIDE = REPOSITORY / "docs/how-to/saved-model.md"
TRAINING_TUTORIAL = REPOSITORY / "docs/tutorial/own-model.md"
WITH_TENSORFLOW = [SAVED_MODEL_GUIDE, TRAINING_TUTORIAL]

_BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
_VARIES = re.compile(r"[\w.:+-]*\d[\w.:+-]*")  # times, versions, checksums, ports


@dataclass(frozen=True)
class Block:
    """A code block: `kind` is sh for commands, text or json for what the last ones print, yaml for a file."""

    kind: str
    text: str

    @property
    def lines(self) -> list[str]:
        return [line for line in self.text.splitlines() if line]


def blocks(document: Path) -> list[Block]:
    found = _BLOCK.findall(document.read_text())
    return [Block(kind, textwrap.dedent(text)) for _, kind, text in found]


def commands(document: Path) -> list[str]:
    return [line for block in blocks(document) if block.kind == "sh" for line in block.lines]


def configuration(block: Block) -> str | None:
    """What a reader puts into the configuration; None if the block is something else."""
    first, _, rest = block.text.partition("\n")
    return rest if block.kind == "yaml" and first == "# /etc/edge-agent/agent.yaml" else None


def lines_not_printed(block: Block, output: str) -> Iterator[str]:
    """Lines of a block of output that `output` lacks. Words with digits may differ; "..." stands for anything."""
    printed = [_shape(line) for line in output.splitlines()]
    for line in block.lines:
        pattern = ".*".join(re.escape(_shape(part)) for part in line.split("..."))
        if not any(re.fullmatch(pattern, each) for each in printed):
            yield line


def _shape(line: str) -> str:
    return " ".join(_VARIES.sub("#", line).split())


def run(
    line: str, folder: Path, environment: Mapping[str, str] | None = None, *, timeout_s: float = 600
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", line],
        check=False,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env={**os.environ, "LC_ALL": "C", **(environment or {})},
    )
