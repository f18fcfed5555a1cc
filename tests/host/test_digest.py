from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING

from agent.host.digest import sha256_of, sha256_of_folder

if TYPE_CHECKING:
    from pathlib import Path

LARGE = bytes(range(256)) * (9 << 10)  # more than one block, and not a multiple of the block size


def test_digest_of_a_file_covers_all_blocks() -> None:
    assert sha256_of(io.BytesIO(LARGE)) == hashlib.sha256(LARGE).hexdigest()


def test_digest_of_a_folder_covers_paths_sizes_and_contents(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b/c").write_bytes(LARGE)
    (tmp_path / "a").write_bytes(b"x")
    expected = hashlib.sha256(b"a\0" + b"1\0" + b"x" + f"b/c\0{len(LARGE)}\0".encode() + LARGE)
    assert sha256_of_folder(tmp_path) == expected.hexdigest()
    (tmp_path / "a").rename(tmp_path / "d")
    assert sha256_of_folder(tmp_path) != expected.hexdigest()
