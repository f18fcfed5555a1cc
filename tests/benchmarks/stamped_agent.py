"""Stamped agent: edge-agent that records for each result when the classifier returned its scores.

`python stamped_agent.py STAMPS edge-agent run --config FILE` appends lines to STAMPS: seq, nanoseconds since 1970. Use
one camera and no uploads, so that the last scores belong to the next result.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent import cli
from agent.inference.results import Results
from agent.runtimes.classifier import Classifier

if TYPE_CHECKING:
    from agent.classification import Result
    from agent.image import Image
    from agent.runtimes.classifier import Spent
    from agent.runtimes.scores import Scores


def main() -> None:
    _stamp(Path(sys.argv[1]))
    del sys.argv[:2]
    cli.main()


def _stamp(path: Path) -> None:
    scores_of, record = Classifier.scores, Results.record
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    ended_ns = [0]

    def stamped_scores(self: Classifier, image: Image) -> tuple[Scores, Spent]:
        scores = scores_of(self, image)
        ended_ns[0] = time.time_ns()
        return scores

    def stamped_record(self: Results, *arguments: Any, **options: Any) -> Result:
        result = record(self, *arguments, **options)
        os.write(descriptor, f"{result.seq} {ended_ns[0]}\n".encode())
        return result

    Classifier.scores = stamped_scores  # type: ignore[method-assign]
    Results.record = stamped_record  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
