from __future__ import annotations

import hashlib
import io
import subprocess
from typing import TYPE_CHECKING

import pytest

from agent.host.digest import manifest_of, sha256_of, sha256_of_folder

if TYPE_CHECKING:
    from pathlib import Path

LARGE = bytes(range(256)) * (9 << 10)  # more than one block, and not a multiple of the block size


def test_digest_of_a_file_covers_all_blocks() -> None:
    assert sha256_of(io.BytesIO(LARGE)) == hashlib.sha256(LARGE).hexdigest()


def test_manifest_is_what_sha256sum_prints_for_the_sorted_files(tmp_path: Path) -> None:
    for name, content in {"b/c": LARGE, "a b": b"x", "b.d": b"", "ä/1": b"y", "Z": b"z"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    command = r"find . -type f -printf '%P\0' | LC_ALL=C sort -z | xargs -0 sha256sum"
    printed = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, check=True).stdout
    assert manifest_of(tmp_path) == printed
    assert sha256_of_folder(tmp_path) == hashlib.sha256(printed).hexdigest()
    (tmp_path / ".DS_Store").write_bytes(b"of a desktop")
    (tmp_path / "Z").rename(tmp_path / "Y")
    assert manifest_of(tmp_path) == printed.replace(b"  Z", b"  Y")


def test_manifest_refuses_a_name_that_sha256sum_would_escape(tmp_path: Path) -> None:
    (tmp_path / "two\nlines").write_bytes(b"")
    with pytest.raises(OSError, match="its name is not plain text"):
        manifest_of(tmp_path)
