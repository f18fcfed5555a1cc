"""Ways of copying: how a model file gets into the folder, by tools, by hand and by accident."""

from __future__ import annotations

import hashlib
import mmap
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Way: TypeAlias = "Callable[[Errand], None]"

# Against the second for which a file must rest, and the five after which one that is not whole is given up.
_SHORT_PAUSE_S, _LONG_PAUSE_S = 0.3, 1.8


@dataclass(frozen=True, slots=True)
class Errand:
    """`source` holds the new file and may be used up, `target` is where an old one of the same length lies.

    `other` is a third one. `pauses_s` are those of a slow writer.
    """

    source: Path
    other: Path
    target: Path
    pauses_s: tuple[float, ...]
    minisig: bytes

    @property
    def content(self) -> bytes:
        return self.source.read_bytes()

    @property
    def checksum(self) -> Path:
        return self.target.with_name(f"{self.target.name}.sha256")

    def write_checksum(self, content: bytes) -> None:
        self.checksum.write_text(f"{hashlib.sha256(content).hexdigest()}  {self.target.name}\n")


def cp(errand: Errand) -> None:
    _run("cp", errand.source, errand.target)


def cp_that_keeps_the_time(errand: Errand) -> None:
    os.utime(errand.source, (1_000_000_000, 1_000_000_000))
    _run("cp", "-p", errand.source, errand.target)


def mv(errand: Errand) -> None:
    _run("mv", errand.source, errand.target)


def rsync(errand: Errand) -> None:
    _run("rsync", "--checksum", "--no-whole-file", errand.source, errand.target)


def rsync_in_place(errand: Errand) -> None:
    _run("rsync", "--checksum", "--no-whole-file", "--inplace", errand.source, errand.target)


def rsync_that_keeps_the_time(errand: Errand) -> None:
    os.utime(errand.source, (1_000_000_000, 1_000_000_000))
    _run("rsync", "-t", "--checksum", errand.source, errand.target)


def sftp(errand: Errand) -> None:
    """Whose rename is a link, after which the other name goes."""
    part = errand.target.with_name(f"{errand.target.name}.part")
    part.write_bytes(errand.content)
    errand.target.unlink()
    os.link(part, errand.target)
    part.unlink()


def scp_that_preallocates(errand: Errand) -> None:
    content, half = errand.content, len(errand.content) // 2
    with errand.target.open("wb", buffering=0) as file:
        os.posix_fallocate(file.fileno(), 0, len(content))
        file.write(content[:half])
        time.sleep(_LONG_PAUSE_S)
        file.write(content[half:])


def slow_writer(errand: Errand) -> None:
    """Some pauses are shorter than the time for which a file must rest, some longer."""
    content, count = errand.content, len(errand.pauses_s) + 1
    with errand.target.open("wb", buffering=0) as file:
        for number, pause_s in enumerate((*errand.pauses_s, 0.0)):
            file.write(content[number * len(content) // count : (number + 1) * len(content) // count])
            time.sleep(pause_s)


def killed_writer(errand: Errand) -> None:
    """Closes the file as one that is through does; the second attempt is whole."""
    script = "import sys, time; f = open(sys.argv[1], 'wb', 0); f.write(sys.stdin.buffer.read()); print(flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", f"{script}; time.sleep(60)", errand.target],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as writer:
        assert writer.stdin
        assert writer.stdout
        writer.stdin.write(errand.content[: len(errand.content) * 2 // 3])
        writer.stdin.close()
        writer.stdout.readline()
        writer.kill()
    time.sleep(_LONG_PAUSE_S)
    cp(errand)


def append_and_resume(errand: Errand) -> None:
    content, half = errand.content, len(errand.content) // 2
    errand.target.write_bytes(content[:half])
    time.sleep(_LONG_PAUSE_S)
    with errand.target.open("ab") as file:
        file.write(content[half:])


def mapped_memory(errand: Errand) -> None:
    content, half = errand.content, len(errand.content) // 2
    with errand.target.open("w+b") as file:
        file.truncate(len(content))
        with mmap.mmap(file.fileno(), len(content)) as memory:
            memory[:half] = content[:half]
            time.sleep(_LONG_PAUSE_S)
            memory[half:] = content[half:]


def sparse_file_that_is_filled(errand: Errand) -> None:
    """From its end, as some download managers do."""
    content = errand.content
    with errand.target.open("wb", buffering=0) as file:
        file.truncate(len(content))
        for part in (3, 2, 1, 0):
            time.sleep(_LONG_PAUSE_S if part == 1 else _SHORT_PAUSE_S)
            start = part * len(content) // 4
            file.seek(start)
            file.write(content[start : (part + 1) * len(content) // 4])


def dd(errand: Errand) -> None:
    _run("dd", f"if={errand.source}", f"of={errand.target}", "bs=4096", "conv=notrunc", "status=none")


def truncate_then_write(errand: Errand) -> None:
    content = errand.content
    with errand.target.open("wb", buffering=0) as file:
        time.sleep(_LONG_PAUSE_S)
        file.write(content)


def editor(errand: Errand) -> None:
    beside = errand.target.with_name(f".{errand.target.name}.swp")
    with beside.open("wb") as file:
        file.write(errand.content)
        file.flush()
        os.fsync(file.fileno())
    beside.rename(errand.target)


def two_writers(errand: Errand) -> None:
    """They leave a block of this file and a block of that, which only the checksum tells; then one comes again."""
    errand.write_checksum(errand.content)
    contents = errand.other.read_bytes(), errand.content
    with errand.target.open("r+b", buffering=0) as one, errand.target.open("r+b", buffering=0) as another:
        for number, start in enumerate(range(0, len(contents[0]), 4096)):
            writers = [(one, contents[0]), (another, contents[1])]
            for file, content in writers if number % 2 else reversed(writers):
                file.seek(start)
                file.write(content[start : start + 4096])
    time.sleep(_LONG_PAUSE_S)
    cp(errand)


def in_place_with_a_pause(errand: Errand) -> None:
    """Half of the new file before half of the old one, which only the checksum tells."""
    errand.write_checksum(errand.content)
    content, half = errand.content, len(errand.content) // 2
    with errand.target.open("r+b", buffering=0) as file:
        file.write(content[:half])
        time.sleep(_LONG_PAUSE_S)
        file.write(content[half:])


def removal_and_return(errand: Errand) -> None:
    errand.target.unlink()
    time.sleep(_LONG_PAUSE_S)
    cp(errand)


def hard_link(errand: Errand) -> None:
    errand.target.unlink()
    os.link(errand.source, errand.target)


def checksum_before(errand: Errand) -> None:
    errand.write_checksum(errand.content)
    time.sleep(_SHORT_PAUSE_S)
    cp(errand)


def checksum_after(errand: Errand) -> None:
    """And half of the file long before."""
    content = errand.content
    errand.target.write_bytes(content[: len(content) // 2])
    time.sleep(_LONG_PAUSE_S)
    errand.target.write_bytes(content)
    errand.write_checksum(content)


def checksum_long_after(errand: Errand) -> None:
    """The file serves already."""
    content = errand.content
    errand.target.write_bytes(content)
    time.sleep(2 * _LONG_PAUSE_S)
    errand.write_checksum(content)


def signature_after(errand: Errand) -> None:
    cp(errand)
    time.sleep(2 * _LONG_PAUSE_S)
    errand.target.with_name(f"{errand.target.name}.minisig").write_bytes(errand.minisig)


def symlink(errand: Errand) -> None:
    errand.target.symlink_to(errand.source)


def fifo(errand: Errand) -> None:
    os.mkfifo(errand.target)


def folder(errand: Errand) -> None:
    errand.target.mkdir()
    (errand.target / "model.tflite").write_bytes(errand.content)


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True)


REPLACING: tuple[Way, ...] = (
    cp,
    cp_that_keeps_the_time,
    mv,
    rsync,
    rsync_in_place,
    rsync_that_keeps_the_time,
    sftp,
    scp_that_preallocates,
    slow_writer,
    killed_writer,
    append_and_resume,
    mapped_memory,
    sparse_file_that_is_filled,
    dd,
    in_place_with_a_pause,
    truncate_then_write,
    editor,
    two_writers,
    removal_and_return,
    hard_link,
    checksum_before,
    checksum_after,
    checksum_long_after,
    signature_after,
)
IGNORED: tuple[Way, ...] = (symlink, fifo, folder)
