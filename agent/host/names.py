"""Names: the names that this machine has on its network."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_BYTES = 1 << 16  # some hosts files block a million names of advertisers; the machine's own come first
_ETC = Path("/etc")


def own_names(*, etc: Path = _ETC) -> set[str]:
    """In lower case. Reads two files and never waits for a name server, so the event loop may call it."""
    name = socket.gethostname().lower().rstrip(".")
    short = name.partition(".")[0]
    names = {"localhost", name, short, f"{short}.local"}
    for words in _lines(etc / "resolv.conf"):
        if words[0] in ("search", "domain"):
            names.update(f"{short}.{domain.strip('.')}" for domain in words[1:])
    for _, *names_of_address in _lines(etc / "hosts"):
        if name in names_of_address or short in names_of_address:
            names.update(each.rstrip(".") for each in names_of_address)
    return names


def _lines(file: Path) -> Iterator[list[str]]:
    """The words of each line, without comments."""
    try:
        with file.open("rb") as opened:
            text = opened.read(_MAX_BYTES).decode("utf-8", "replace")
    except OSError:
        return
    for line in text.splitlines():
        if words := line.partition("#")[0].lower().split():
            yield words
