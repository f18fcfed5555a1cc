"""Starts a command of an installed version with only that version's packages. Called by launcher.sh."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_INVALID = 2  # systemd does not restart the service after this exit code
_VERSION = Path(__file__).parents[1]


def main() -> None:
    command = sys.argv.pop(1)
    for name in [name for name in os.environ if name.startswith("PYTHON")]:
        del os.environ[name]  # the programs that this one starts must not see them either
    os.environ["PYTHONFAULTHANDLER"] = "1"  # as launcher.sh does for this one: tracebacks of crashes
    if not Path(sys.prefix, "lib", _python()).is_dir():
        _refuse(
            f"This version was installed for {_installed_for()}, but the system now has {_spoken(_python())}. "
            "Run: sudo deploy/systemd/install.sh --upgrade (in a checkout, or in the bundle for the new Python). "
            "With apt, install the package for the new Python."
        )
    try:
        if command == "edge-convert":
            from converter.cli import main as run  # noqa: PLC0415  (its failure is caught)
        else:
            from agent.cli import main as run  # noqa: PLC0415
        run()
    except ImportError as error:
        _refuse(f"The packages in {_VERSION} are damaged ({error}). Repair them: sudo deploy/systemd/install.sh")


def _python() -> str:
    return f"python{sys.version_info.major}.{sys.version_info.minor}"


def _spoken(python: str) -> str:
    return python.replace("python", "Python ")


def _installed_for() -> str:
    folders = sorted(path.name for path in Path(sys.prefix, "lib").glob("python3.*"))
    return " and ".join(map(_spoken, folders)) or "another Python"


def _refuse(sentence: str) -> None:
    print(f"edge-agent: {sentence}", file=sys.stderr)
    sys.exit(_INVALID)


main()
