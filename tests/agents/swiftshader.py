"""SwiftShader: Chromium's Vulkan driver that computes on the CPU, so that LiteRT's GPU accelerator runs anywhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from needs import need

from agent.host.library import find_library
from agent.runtimes.compiled_model import has_gpu_runtime

_MANIFESTS = ("usr/lib/chromium*/vk_swiftshader_icd.json", "opt/google/chrome/vk_swiftshader_icd.json")
DEVICE = "SwiftShader Device"  # how the name of its device begins


def environment() -> dict[str, str]:
    """Makes it the only Vulkan driver. Skips the test if the installed TFLite runtime has no GPU accelerator."""
    if not has_gpu_runtime():
        pytest.skip("this TFLite runtime computes on the CPU only")
    manifest = next((path for pattern in _MANIFESTS for path in Path("/").glob(pattern)), None)
    need(manifest and find_library("libvulkan.so.1"), "SwiftShader is missing: apt-get install chromium libvulkan1")
    return {"VK_ICD_FILENAMES": str(manifest)}


def use(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
