"""Software: checks whether the runtime, NumPy, OpenCV, the C library and the processor are compatible."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import re
from pathlib import Path

from agent.doctor.finding import Finding, fault, ok, warning
from agent.errors import ModelError
from agent.runtimes.interpreter import import_runtime, runtime

_CPUINFO = Path("/proc/cpuinfo")
# The vector instructions that the runtimes' kernels use.
_VECTORS = {"x86_64": "avx2", "aarch64": "asimd", "armv7l": "neon"}
_REINSTALL = "Reinstall: sudo deploy/systemd/install.sh"


def check_runtime(machine: str | None = None) -> Finding:
    try:
        import_runtime()
        name = runtime()
    except ModelError as error:
        return fault("runtime", str(error), _REINSTALL)
    except (ImportError, AttributeError) as error:  # AttributeError: built for another NumPy
        return fault("runtime", f"The runtime does not load: {error}", f"{_REINSTALL}; tflite-runtime needs NumPy 1.")
    if name.startswith("tflite-runtime") and (machine or platform.machine()) in ("x86_64", "aarch64"):
        return warning("runtime", f"{name} runs int8 models about 20 times slower", "pip install ai-edge-litert")
    return ok("runtime", name)


def check_packages() -> Finding:
    try:
        versions = [f"{name} {importlib.import_module(name).__version__}" for name in ("numpy", "cv2")]
    except (ImportError, AttributeError) as error:
        return fault("packages", f"NumPy and OpenCV do not load: {error}", _REINSTALL)
    return ok("packages", ", ".join(versions))


def check_libc() -> Finding:
    """The wheels are built for glibc 2.28 and later."""
    version = (os.confstr("CS_GNU_LIBC_VERSION") or "") if "CS_GNU_LIBC_VERSION" in os.confstr_names else ""
    found = re.fullmatch(r"glibc (\d+)\.(\d+)", version)
    if found is None:
        return warning(
            "C library", "The C library is not glibc.", "The wheels are built for glibc: use Debian or Ubuntu."
        )
    if (int(found[1]), int(found[2])) < (2, 28):
        return fault("C library", f"{version} is too old for the wheels.", "Use Debian 12, Ubuntu 22.04 or later.")
    return ok("C library", version)


def check_processor(cpuinfo: Path = _CPUINFO, machine: str | None = None) -> Finding:
    machine = machine or platform.machine()
    try:
        flags = re.findall(r"(?m)^(?:flags|Features)\s*:(.*)", cpuinfo.read_text(encoding="utf-8", errors="replace"))
    except OSError as error:
        return warning("processor", f"{cpuinfo}: {error.strerror}", "Do not set ProcSubset=pid in the unit.")
    wanted = _VECTORS.get(machine)
    if wanted and flags and wanted not in flags[0].split():
        return warning(
            "processor", f"{machine} without {wanted}", "Inference is slow on this processor: use a newer one."
        )
    return ok("processor", f"{machine} with {wanted}" if wanted and flags else machine)
