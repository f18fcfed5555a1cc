"""Copy methods: how a model file gets into the folder, by tools, by hand and by accident."""

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

CopyMethod: TypeAlias = "Callable[[CopyJob], None]"

# A file must be unchanged for 1 s before it is examined; an incomplete one is rejected after 5 s.
_SHORT_PAUSE_S, _LONG_PAUSE_S = 0.3, 1.8


@dataclass(frozen=True, slots=True)
class CopyJob:
    """`source` is the new file, which may be moved; `target` has an old file of the same length.

    `other` is a third file. `pauses_s` are the pauses of a slow writer.
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


def cp(job: CopyJob) -> None:
    _run("cp", job.source, job.target)


def cp_keeping_the_time(job: CopyJob) -> None:
    os.utime(job.source, (1_000_000_000, 1_000_000_000))
    _run("cp", "-p", job.source, job.target)


def mv(job: CopyJob) -> None:
    _run("mv", job.source, job.target)


def rsync(job: CopyJob) -> None:
    _run("rsync", "--checksum", "--no-whole-file", job.source, job.target)


def rsync_in_place(job: CopyJob) -> None:
    _run("rsync", "--checksum", "--no-whole-file", "--inplace", job.source, job.target)


def rsync_keeping_the_time(job: CopyJob) -> None:
    os.utime(job.source, (1_000_000_000, 1_000_000_000))
    _run("rsync", "-t", "--checksum", job.source, job.target)


def sftp(job: CopyJob) -> None:
    """Sftp renames by making a link and then removing the old name."""
    part = job.target.with_name(f"{job.target.name}.part")
    part.write_bytes(job.content)
    job.target.unlink()
    os.link(part, job.target)
    part.unlink()


def scp_preallocating(job: CopyJob) -> None:
    content, half = job.content, len(job.content) // 2
    with job.target.open("wb", buffering=0) as file:
        os.posix_fallocate(file.fileno(), 0, len(content))
        file.write(content[:half])
        time.sleep(_LONG_PAUSE_S)
        file.write(content[half:])


def slow_writer(job: CopyJob) -> None:
    """Some pauses are shorter than the time for which a file must be unchanged, some longer."""
    content, count = job.content, len(job.pauses_s) + 1
    with job.target.open("wb", buffering=0) as file:
        for number, pause_s in enumerate((*job.pauses_s, 0.0)):
            file.write(content[number * len(content) // count : (number + 1) * len(content) // count])
            time.sleep(pause_s)


def killed_writer(job: CopyJob) -> None:
    """The kernel closes the file of the killed writer like a complete one; the second attempt is complete."""
    script = "import sys, time; f = open(sys.argv[1], 'wb', 0); f.write(sys.stdin.buffer.read()); print(flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", f"{script}; time.sleep(60)", job.target],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as writer:
        assert writer.stdin
        assert writer.stdout
        writer.stdin.write(job.content[: len(job.content) * 2 // 3])
        writer.stdin.close()
        writer.stdout.readline()
        writer.kill()
    time.sleep(_LONG_PAUSE_S)
    cp(job)


def append_and_resume(job: CopyJob) -> None:
    content, half = job.content, len(job.content) // 2
    job.target.write_bytes(content[:half])
    time.sleep(_LONG_PAUSE_S)
    with job.target.open("ab") as file:
        file.write(content[half:])


def mapped_memory(job: CopyJob) -> None:
    content, half = job.content, len(job.content) // 2
    with job.target.open("w+b") as file:
        file.truncate(len(content))
        with mmap.mmap(file.fileno(), len(content)) as memory:
            memory[:half] = content[:half]
            time.sleep(_LONG_PAUSE_S)
            memory[half:] = content[half:]


def sparse_file_filled_later(job: CopyJob) -> None:
    """Starts at the end, as some download managers do."""
    content = job.content
    with job.target.open("wb", buffering=0) as file:
        file.truncate(len(content))
        for part in (3, 2, 1, 0):
            time.sleep(_LONG_PAUSE_S if part == 1 else _SHORT_PAUSE_S)
            start = part * len(content) // 4
            file.seek(start)
            file.write(content[start : (part + 1) * len(content) // 4])


def dd(job: CopyJob) -> None:
    _run("dd", f"if={job.source}", f"of={job.target}", "bs=4096", "conv=notrunc", "status=none")


def truncate_then_write(job: CopyJob) -> None:
    content = job.content
    with job.target.open("wb", buffering=0) as file:
        time.sleep(_LONG_PAUSE_S)
        file.write(content)


def editor(job: CopyJob) -> None:
    temporary = job.target.with_name(f".{job.target.name}.swp")
    with temporary.open("wb") as file:
        file.write(job.content)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(job.target)


def two_writers(job: CopyJob) -> None:
    """The result has blocks of both files, which only the checksum detects; then one writer repeats its copy."""
    job.write_checksum(job.content)
    contents = job.other.read_bytes(), job.content
    with job.target.open("r+b", buffering=0) as one, job.target.open("r+b", buffering=0) as another:
        for number, start in enumerate(range(0, len(contents[0]), 4096)):
            writers = [(one, contents[0]), (another, contents[1])]
            for file, content in writers if number % 2 else reversed(writers):
                file.seek(start)
                file.write(content[start : start + 4096])
    time.sleep(_LONG_PAUSE_S)
    cp(job)


def in_place_with_a_pause(job: CopyJob) -> None:
    """During the pause, half of the file is new and half old, which only the checksum detects."""
    job.write_checksum(job.content)
    content, half = job.content, len(job.content) // 2
    with job.target.open("r+b", buffering=0) as file:
        file.write(content[:half])
        time.sleep(_LONG_PAUSE_S)
        file.write(content[half:])


def removal_and_new_copy(job: CopyJob) -> None:
    job.target.unlink()
    time.sleep(_LONG_PAUSE_S)
    cp(job)


def hard_link(job: CopyJob) -> None:
    job.target.unlink()
    os.link(job.source, job.target)


def checksum_before(job: CopyJob) -> None:
    job.write_checksum(job.content)
    time.sleep(_SHORT_PAUSE_S)
    cp(job)


def checksum_after(job: CopyJob) -> None:
    """Half of the file is written long before."""
    content = job.content
    job.target.write_bytes(content[: len(content) // 2])
    time.sleep(_LONG_PAUSE_S)
    job.target.write_bytes(content)
    job.write_checksum(content)


def checksum_long_after(job: CopyJob) -> None:
    """The file already serves when its checksum appears."""
    content = job.content
    job.target.write_bytes(content)
    time.sleep(2 * _LONG_PAUSE_S)
    job.write_checksum(content)


def signature_after(job: CopyJob) -> None:
    cp(job)
    time.sleep(2 * _LONG_PAUSE_S)
    job.target.with_name(f"{job.target.name}.minisig").write_bytes(job.minisig)


def symlink(job: CopyJob) -> None:
    job.target.symlink_to(job.source)


def fifo(job: CopyJob) -> None:
    os.mkfifo(job.target)


def folder(job: CopyJob) -> None:
    job.target.mkdir()
    (job.target / "model.tflite").write_bytes(job.content)


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True)


REPLACING: tuple[CopyMethod, ...] = (
    cp,
    cp_keeping_the_time,
    mv,
    rsync,
    rsync_in_place,
    rsync_keeping_the_time,
    sftp,
    scp_preallocating,
    slow_writer,
    killed_writer,
    append_and_resume,
    mapped_memory,
    sparse_file_filled_later,
    dd,
    in_place_with_a_pause,
    truncate_then_write,
    editor,
    two_writers,
    removal_and_new_copy,
    hard_link,
    checksum_before,
    checksum_after,
    checksum_long_after,
    signature_after,
)
IGNORED: tuple[CopyMethod, ...] = (symlink, fifo, folder)
