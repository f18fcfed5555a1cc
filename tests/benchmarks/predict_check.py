"""Checks roughly that uploads have not become slow: `make bench-check`, on any machine, in half a minute.

With the small demo model, HTTP is most of the work: the ratios fall when it takes twice as long, and hardly when other
programs take time from both sides.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from agents.running_agent import DIGITS, RunningAgent
from benchmarks import wrk
from benchmarks.material import form, jpeg
from benchmarks.predict_rate import WORKERS, bare_rate, rate

_ROUNDS = 3
_TURN_S = 1
_TRIES = 2
_LEAST_OF_BARE, _LEAST_OF_RAW = 0.3, 0.75  # on a quiet machine, 0.56 and 1.02


def main() -> None:
    if wrk.MISSING:
        sys.exit(wrk.MISSING)
    for _ in range(_TRIES):
        of_bare, of_raw = _ratios()
        print(f"POST /predict / the same work without HTTP: {of_bare:.2f}, at least {_LEAST_OF_BARE}")
        print(f"a form / a raw body: {of_raw:.2f}, at least {_LEAST_OF_RAW}")
        if of_bare >= _LEAST_OF_BARE and of_raw >= _LEAST_OF_RAW:
            return
    sys.exit("Uploads are slower than allowed. See docs/performance.md, and find the cause with make bench.")


def _ratios() -> tuple[float, float]:
    """Of a raw body to the work without HTTP, and of a form to a raw body."""
    image = jpeg(640, 427)
    body = form(image)
    with tempfile.TemporaryDirectory() as folder:
        agent = RunningAgent(Path(folder), engine={"workers": WORKERS, "threads": 1})
        agent.drop(DIGITS.read_bytes())
        with agent:
            rounds = [
                (
                    bare_rate(DIGITS, image, for_s=_TURN_S),
                    rate(agent, image, for_s=_TURN_S),
                    rate(agent, body, for_s=_TURN_S),
                )
                for _ in range(_ROUNDS)
            ]
    of_bare, of_raw = ([raw / bare for bare, raw, _ in rounds], [form / raw for _, raw, form in rounds])
    return statistics.median(of_bare), statistics.median(of_raw)


if __name__ == "__main__":
    main()
