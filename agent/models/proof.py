"""Proof: reads a .sha256 file, which states the digest of a file, or those of the files of a SavedModel."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# sha256sum's format: digest, blank, blank or *, name
_LINE = re.compile(r"^\\?([0-9a-fA-F]{64})(?:[ \t]+\*?(.*))?$", re.MULTILINE)


def stated_sha256(text: str, name: str) -> str | None:
    """The digest for `name`, or the only one."""
    lines = _LINE.findall(text)
    named = [digest for digest, file in lines if file.rpartition("/")[2] == name] or [digest for digest, _ in lines]
    return named[0].lower() if named and (len(lines) == 1 or len(named) < len(lines)) else None


def stated_files(text: str, folder: str) -> dict[str, str]:
    """The digests by the path inside `folder`, also if the paths begin with `./` or the name of the folder."""
    lines = [(digest.lower(), file.strip().removeprefix("./")) for digest, file in _LINE.findall(text)]
    return {file.removeprefix(f"{folder}/"): digest for digest, file in lines}


def first_difference(stated: Mapping[str, str], found: Mapping[str, str]) -> str | None:
    """A clause about the first file that the list and the folder do not have in common."""
    for name in sorted(stated.keys() | found.keys()):
        if name not in found:
            return f"{name} is missing"
        if name not in stated:
            return f"{name} is not listed"
        if stated[name] != found[name]:
            return f"{name} has the digest {found[name][:12]}... instead of {stated[name][:12]}..."
    return None
