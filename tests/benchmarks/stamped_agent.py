"""Stamped agent: edge-agent that notes of each result when the invoke() behind it had ended.

`python stamped_agent.py STAMPS edge-agent run --config FILE` adds lines to STAMPS: seq, nanoseconds since 1970. It must
have one camera and no uploads: then the last invoke() is the one of the next result.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent import cli
from agent.inference.results import Results
from agent.runtimes.tflite import TFLiteClassifier

if TYPE_CHECKING:
    from agent.classification import Result


def main() -> None:
    _stamp(Path(sys.argv[1]))
    del sys.argv[:2]
    cli.main()


def _stamp(path: Path) -> None:
    invoke, record = TFLiteClassifier._invoke, Results.record
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    ended_ns = [0]

    def stamped_invoke(self: TFLiteClassifier, tensor: Any) -> Any:
        raw = invoke(self, tensor)
        ended_ns[0] = time.time_ns()
        return raw

    def stamped_record(self: Results, *arguments: Any, **options: Any) -> Result:
        result = record(self, *arguments, **options)
        os.write(descriptor, f"{result.seq} {ended_ns[0]}\n".encode())
        return result

    TFLiteClassifier._invoke = stamped_invoke  # type: ignore[method-assign]
    Results.record = stamped_record  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
