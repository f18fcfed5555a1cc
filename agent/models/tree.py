"""Tree: lists the files of a dropped SavedModel folder, and recognizes whether any of them has changed."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from agent.host.digest import fits_in_manifest
from agent.host.plain_file import status_below

if TYPE_CHECKING:
    from pathlib import Path

# Inode, size and ctime: cp -p and rsync -t keep an old mtime, but no tool can keep an old ctime.
Stamp: TypeAlias = tuple[int, int, int]

MAX_FILES = 1000
_MAX_DEPTH = 8


@dataclass(slots=True)
class Tree:
    """`files` has the paths inside the folder, without hidden files, `size` their bytes in sum.

    `stamp` has a hash of the stamps of all files, hidden ones too, in place of an inode. `fault` is a sentence about
    a file for which the folder must be refused.
    """

    files: list[str] = field(default_factory=list)
    size: int = 0
    stamp: Stamp = (0, 0, 0)
    fault: str | None = None


def tree_of(folder: Path, root: Path) -> Tree:
    """A link counts if it leads to a file below `root`. Raises OSError if the disk fails, not if a file is missing."""
    tree, stamps = Tree(), []
    for name in _names(folder):
        path = folder / name
        status = status_below(path, root)
        if status is None or not stat.S_ISREG(status.st_mode):
            tree.fault = tree.fault or _fault(path, name)
            stamps.append((name, (0, 0, 0)))
            continue
        stamps.append((name, stamp_of(status)))
        if not any(part.startswith(".") for part in name.split("/")):
            tree.files.append(name)
            tree.size += status.st_size
            tree.fault = tree.fault or _fault_in(name)
    if len(stamps) > MAX_FILES:
        tree.fault = f"The SavedModel has more than {MAX_FILES} files. Drop only the files that TensorFlow saved."
    digest = hashlib.blake2b(repr(stamps).encode(errors="surrogateescape"), digest_size=8).digest()
    newest = max((ctime_ns for _, (_, _, ctime_ns) in stamps), default=0)
    tree.stamp = int.from_bytes(digest, "big") >> 1, tree.size, newest  # JSON readers expect 63 bits at most
    return tree


def stamp_of(status: os.stat_result) -> Stamp:
    return status.st_ino, status.st_size, status.st_ctime_ns


def _names(folder: Path) -> list[str]:
    """The paths inside the folder, sorted, but for folders that were listed; up to a few more than the limit."""
    names: list[str] = []
    ahead = [""]
    while ahead and len(names) <= MAX_FILES:
        inner = ahead.pop()
        try:
            with os.scandir(folder / inner) as entries:
                for entry in entries:
                    name = f"{inner}{entry.name}"
                    if not entry.is_dir(follow_symlinks=False):
                        names.append(name)
                    elif name.count("/") < _MAX_DEPTH:
                        ahead.append(f"{name}/")
                    else:
                        names.append(name)
                    if len(names) + len(ahead) > 2 * MAX_FILES:
                        break
        except (FileNotFoundError, NotADirectoryError):
            continue  # it disappears meanwhile
        except PermissionError:
            names.append(inner.rstrip("/"))
    return sorted(names)


def _fault_in(name: str) -> str | None:
    if fits_in_manifest(name):
        return None
    return f"A file name in the SavedModel is not plain text: {name!a}. Rename the file."


def _fault(path: Path, name: str) -> str:
    if path.is_symlink():
        return (
            f"{name} in the SavedModel is a link that does not lead to a file in the drop folder. Copy the file itself."
        )
    if path.is_dir() and name.count("/") >= _MAX_DEPTH:
        return f"The SavedModel has more than {_MAX_DEPTH} folders inside each other. Remove {name}."
    if path.is_dir():
        return f"The folder {name} in the SavedModel cannot be listed. Make it readable for the agent's user."
    return f"{name} in the SavedModel is not a regular file. Remove it."
