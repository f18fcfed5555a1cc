"""Finished model: a .tflite file in memory, with what was found out about it."""

from __future__ import annotations

import hashlib
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from agent.errors import AgentError
    from converter.evaluation.agreement import Agreement
    from converter.evaluation.evaluation import Evaluation
    from converter.quantization import Scheme


@dataclass(frozen=True, slots=True)
class FinishedModel:
    """`refusal` is why it was not written: the target cannot load it, or it loses too much accuracy.

    `agreement` with the source is on the images of --evaluate, or else on those of the calibration.
    """

    path: Path
    scheme: Scheme
    content: bytes = field(repr=False)
    checked: str
    evaluation: Evaluation | None = None
    refusal: AgentError | None = None
    agreement: Agreement | None = None

    def rsync(self, destination: str) -> str:
        """The command that copies the file to `destination` atomically, readable by the agent's group."""
        folder = destination if destination.endswith((":", "/")) else f"{destination}/"
        return f"rsync --times --chmod=F664 {shlex.quote(str(self.path))} {shlex.quote(folder)}"

    def to_json(self) -> dict[str, Any]:
        return {
            "path": str(self.path),
            "scheme": self.scheme,
            "bytes": len(self.content),
            "sha256": hashlib.sha256(self.content).hexdigest(),
            "written": self.refusal is None,
            "refusal": None if self.refusal is None else str(self.refusal),
            "checked": self.checked,
            "evaluation": self.evaluation.to_json() if self.evaluation else None,
        }
