from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.host.memory import free_bytes, left_in_cgroup

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Names the cgroup of the service, as the kernel does in /proc/self/cgroup."""
    path = tmp_path / "own"
    path.write_text("0::/system.slice/edge-agent.service\n")
    return path


@pytest.fixture
def group(tmp_path: Path) -> Path:
    path = tmp_path / "system.slice" / "edge-agent.service"
    path.mkdir(parents=True)
    return path


def test_free_bytes_are_plausible_for_this_machine() -> None:
    assert 0 < free_bytes() < 1 << 50


def test_memory_left_depends_on_the_limit_of_the_service(tmp_path: Path, group: Path, own: Path) -> None:
    (group / "memory.current").write_text("1000\n")
    (group / "memory.stat").write_text("anon 700\ninactive_file 200\nactive_file 100\n")
    for limit, left in (("max\n", None), ("5000\n", 4200), ("damaged", None)):
        (group / "memory.max").write_text(limit)
        assert left_in_cgroup(cgroups=tmp_path, own=own) == left


def test_memory_left_depends_on_the_limit_of_a_parent_group(tmp_path: Path, group: Path, own: Path) -> None:
    for folder, limit in ((group, "9000"), (group.parent, "6000")):
        (folder / "memory.max").write_text(limit)
        (folder / "memory.current").write_text("1000")
        (folder / "memory.stat").write_text("")
    assert left_in_cgroup(cgroups=tmp_path, own=own) == 5000


def test_memory_left_is_unknown_without_cgroups(tmp_path: Path) -> None:
    assert left_in_cgroup(cgroups=tmp_path, own=tmp_path / "none") is None
