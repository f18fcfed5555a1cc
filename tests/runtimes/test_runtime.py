from __future__ import annotations

import subprocess
import sys

# sys.modules shows no import if TensorFlow is not installed, so a finder detects the attempt.
_WITHOUT_TENSORFLOW = """
import sys

class Refusal:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tensorflow", "keras", "tf_keras"):
            raise AssertionError(name)

sys.meta_path.insert(0, Refusal())
import agent.service
import agent.cli
import agent.runtimes.saved_model
"""


def test_agent_starts_without_importing_tensorflow() -> None:
    done = subprocess.run([sys.executable, "-c", _WITHOUT_TENSORFLOW], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
