from __future__ import annotations

from typing import TYPE_CHECKING

from agent.doctor import software

if TYPE_CHECKING:
    from pathlib import Path


def test_software_of_this_machine_has_no_fault() -> None:
    findings = [software.check_runtime(), software.check_packages(), software.check_libc(), software.check_processor()]
    assert [finding.level for finding in findings if finding.about != "runtime"] == ["ok", "ok", "ok"]
    assert findings[0].level in ("ok", "warning")  # tflite-runtime on x86_64


def test_processor_is_a_warning_when_it_is_hidden_or_has_no_vectors(tmp_path: Path) -> None:
    assert "ProcSubset" in str(software.check_processor(tmp_path / "cpuinfo").remedy)
    (tmp_path / "cpuinfo").write_text("Features\t: fp asimd\n")
    assert software.check_processor(tmp_path / "cpuinfo", "aarch64").fact == "aarch64 with asimd"
    assert software.check_processor(tmp_path / "cpuinfo", "x86_64").level == "warning"
