"""Stands in for one conversion of the watch: a program that ends as the file `behavior` in the source says.

It takes no time, so that tests can kill and restart the watch often. What it writes depends on that file and on --mean.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path


def main(calls: str, _parent: str, source: str, output: str, *words: str) -> None:
    """Appends a line to the file `calls`."""
    with Path(calls).open("a") as log:
        log.write(f"{source}\n")
    folder = Path(source) if Path(source).is_dir() else Path(source).parent
    wanted = folder / "behavior"
    behavior = json.loads(wanted.read_text()) if wanted.exists() else {}
    if "--report=report.html" in words:
        Path("report.html").write_text("a report")
        Path("report.json").write_text("{}")
    while "waits_for" in behavior and not Path(behavior["waits_for"]).exists():
        time.sleep(0.01)
    if "crash" in behavior:
        os.kill(os.getpid(), signal.SIGKILL)
    means = [word for word in words if word.startswith("--mean")]
    if "refused" not in behavior and "failed" not in behavior:
        Path(output).write_bytes(hashlib.sha512(repr((behavior, means)).encode()).digest())
    json.dump(behavior, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
