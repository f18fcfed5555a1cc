"""Access: what a user may not read or write, and the command that allows it."""

from __future__ import annotations

import grp
import os
import pwd
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Right: TypeAlias = Literal["r", "w", "x"]

_MODES = {"r": os.R_OK, "w": os.W_OK, "x": os.X_OK}
_GROUP_BITS = {"r": stat.S_IRGRP, "w": stat.S_IWGRP, "x": stat.S_IXGRP}
_VERBS = {"r": "read", "w": "write to", "x": "enter"}
# Prints the number of the first path that this user may not use.
_ASK = 'n=0; while [ $# -gt 0 ]; do [ "-$1" "$2" ] || { echo $n; exit; }; n=$((n + 1)); shift 2; done'


@dataclass(frozen=True, slots=True)
class Denied:
    """Two sentences: what a user may not do, and what to do."""

    fact: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Account:
    """A user with all groups; `name` is the number if the user has no name."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]

    @classmethod
    def current(cls) -> Account:
        """The user of this process."""
        return cls(_user_name(os.geteuid()), os.geteuid(), os.getegid(), tuple(os.getgroups()))

    @classmethod
    def named(cls, name: str, *, group: str = "", groups: Sequence[str] = ()) -> Account | None:
        """None if that user does not exist.

        `group` replaces the user's own, and `groups` are added to those of the user, if they exist.
        """
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            return None
        ids = {each.gr_name: each.gr_gid for each in grp.getgrall()}
        gid = ids.get(group, entry.pw_gid)
        return cls(
            name, entry.pw_uid, gid, (*os.getgrouplist(name, gid), *(ids[each] for each in groups if each in ids))
        )

    def why_denied(self, path: Path, *, write: bool = False) -> Denied | None:
        """None if the user may read `path`, which exists.

        With `write`, the user must be allowed to write too. The kernel decides, so access control lists count. Only
        root may ask for another user.
        """
        needs = [*_needs(path, write=write)]
        is_own = self.uid == os.geteuid()
        denied = _first_denied(needs) if is_own else self._first_denied_in_child(needs)
        return None if denied is None else self._denied(*needs[denied])

    def _first_denied_in_child(self, needs: Sequence[tuple[Right, Path]]) -> int | None:
        words = [str(word) for need in needs for word in need]
        answer = subprocess.run(  # noqa: S603  (the paths are arguments, not a part of the program)
            ["/bin/sh", "-c", _ASK, "sh", *words],
            check=False,
            capture_output=True,
            cwd="/",
            user=self.uid,
            group=self.gid,
            extra_groups=self.groups,
        )
        return int(answer.stdout) if answer.stdout else None

    def _denied(self, right: Right, path: Path) -> Denied:
        fact = f"The user {self.name} may not {_VERBS[right]} {path}."
        try:
            return Denied(fact, self._remedy(right, path, path.stat()))
        except OSError as error:  # it is gone meanwhile, or on a file server that does not answer root
            return Denied(fact, f"Look at it: {error.strerror}.")

    def _remedy(self, right: Right, path: Path, status: os.stat_result) -> str:
        if status.st_uid == self.uid:
            return f"Allow it: chmod u+{right} {path}."
        if status.st_mode & _GROUP_BITS[right] and status.st_gid not in (0, self.gid, *self.groups):
            return f"Add the user to its group: sudo usermod -aG {_group_name(status.st_gid)} {self.name}."
        if status.st_uid == 0:
            return f"Allow it: sudo chgrp {_group_name(self.gid)} {path}; sudo chmod g+{right} {path}."
        owner = _user_name(status.st_uid)
        return f"It belongs to the user {owner}: run this as that user (sudo -u {owner}), or give another path."


def explain(error: OSError | UnicodeDecodeError, path: Path, *, write: bool = False) -> str:
    """Why `path` cannot be used; if the user of this process may not use it, also what to do."""
    if isinstance(error, UnicodeDecodeError):
        return "It is not UTF-8 text."
    place = path
    while write and not os.path.lexists(place) and place != place.parent:
        place = place.parent
    denied = Account.current().why_denied(place, write=write) if isinstance(error, PermissionError) else None
    return f"{error.strerror}. {denied.fact} {denied.remedy}" if denied else f"{error.strerror}."


def _needs(path: Path, *, write: bool) -> Iterator[tuple[Right, Path]]:
    """To enter each folder on the way, also to where links lead; then to use the file or the folder itself."""
    real = Path(os.path.realpath(path))
    for folder in dict.fromkeys((*reversed(path.parents), *reversed(real.parents))):
        yield "x", folder
    if os.path.isdir(real):  # noqa: PTH112  (Path raises for a closed folder)
        yield "x", real
    yield "r", real
    if write:
        yield "w", real


def _first_denied(needs: Sequence[tuple[Right, Path]]) -> int | None:
    allowed = [os.access(path, _MODES[right], effective_ids=True) for right, path in needs]
    return None if all(allowed) else allowed.index(False)


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
