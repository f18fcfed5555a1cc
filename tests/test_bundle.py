from __future__ import annotations

import re

from deploy.bundle import LOCK, pins_for

_LOCK = """\
# by uv
numpy==2.4.6 ; python_full_version == '3.11.*' and (platform_machine == 'aarch64') \\
    --hash=sha256:aa \\
    --hash=sha256:ab
numpy==2.5.5 ; python_full_version >= '3.12' \\
    --hash=sha256:ba
colorama==0.4.6 ; sys_platform == 'win32' \\
    --hash=sha256:ca
click==8.5.1 \\
    --hash=sha256:da
"""


def test_pins_for_keeps_the_pins_of_that_machine_and_python_with_their_hashes() -> None:
    assert pins_for("aarch64", "3.11", _LOCK) == (
        "numpy==2.4.6 \\\n--hash=sha256:aa \\\n--hash=sha256:ab\nclick==8.5.1 \\\n--hash=sha256:da\n"
    )
    assert "numpy==2.5.5" in pins_for("x86_64", "3.13", _LOCK)


def test_pins_for_has_one_version_of_each_package_for_each_python() -> None:
    for python in ("3.10", "3.11", "3.12", "3.13"):
        names = re.findall(r"(?m)^([a-z0-9][a-zA-Z0-9_.-]*)==", pins_for("aarch64", python, LOCK.read_text()))
        assert len(names) == len(set(names))
        assert {"ai-edge-litert", "numpy", "opencv-python-headless"} <= set(names)
        assert "tflite-runtime" not in names
