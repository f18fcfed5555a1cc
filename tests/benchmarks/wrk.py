"""Wrk: the load generator, which repeats one upload over several connections."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.material import BOUNDARY

if TYPE_CHECKING:
    from collections.abc import Mapping

MISSING = None if shutil.which("wrk") else "wrk is not installed: apt install wrk"

_SCRIPT = Path(__file__).with_name("upload.lua")
TYPES = {".jpg": "image/jpeg", ".form": f"multipart/form-data; boundary={BOUNDARY}"}


@dataclass(frozen=True, slots=True)
class Load:
    per_s: float
    p50_ms: float
    requests: int
    failed: int


def start(
    url: str, body: Path, *, connections: int, for_s: float, headers: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Without `headers`, the Content-Type follows from the name of the file."""
    command = [
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{for_s:.0f}s",
        "--latency",
        "--timeout",
        "30s",
        "-s",
        str(_SCRIPT),
        url,
    ]
    lines = "\n".join(f"{name}: {value}" for name, value in (headers or {"Content-Type": TYPES[body.suffix]}).items())
    environment = {**os.environ, "UPLOAD_BODY": str(body), "UPLOAD_HEADERS": lines}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def result(running: subprocess.Popen[str]) -> Load:
    """Waits until wrk exits. Requests with a status other than 2xx or 3xx, or a broken connection, count as failed."""
    output, _ = running.communicate()
    assert running.returncode == 0, output
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
    return Load(
        per_s=float(_found(r"Requests/sec:\s+([\d.]+)", output)),
        p50_ms=_milliseconds(_found(r" 50%\s+([\d.]+[mu]?s)", output)),
        requests=int(_found(r"(\d+) requests in", output)),
        failed=int(refused[1] if refused else 0) + sum(map(int, broken.groups() if broken else ())),
    )


def _milliseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)([mu]?s)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[unit]


def _found(pattern: str, output: str) -> str:
    match = re.search(pattern, output)
    assert match is not None, output
    return match[1]
