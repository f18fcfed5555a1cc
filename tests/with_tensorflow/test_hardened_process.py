"""A process that may not write code and run it, as the services of edge-agent with MemoryDenyWriteExecute=."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from agents.saved_models import save_function

if TYPE_CHECKING:
    from pathlib import Path

_SIDE = 96
# prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN), which kernels before 6.3 do not know: then the test shows nothing.
_PROGRAM = """
import ctypes, sys
from pathlib import Path
import numpy as np
denied = ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) == 0
from agent.runtimes.saved_function import open_function
from agent.runtimes.tensorflow import TensorFlowOptions, may_compile
assert may_compile() != denied
function = open_function(Path(sys.argv[1]), TensorFlowOptions())
((scores,),) = function([np.ones(function.input.shape, np.float32)])
print(*scores[0])
"""


def test_convolutions_are_computed_without_compiling_code(tmp_path: Path) -> None:
    kernel = tf.random.stateless_normal((3, 3, 3, 32), seed=(1, 2))

    def network(_: Any, image: Any) -> Any:
        return tf.reduce_mean(tf.nn.relu(tf.nn.conv2d(image, kernel, 2, "SAME")), axis=(1, 2))

    path = save_function(tmp_path / "3", network, (None, _SIDE, _SIDE, 3), tf.float32)
    command = [sys.executable, "-W", "ignore", "-c", _PROGRAM, str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    expected = network(None, tf.ones((1, _SIDE, _SIDE, 3)))[0]
    assert np.allclose(np.array(done.stdout.split(), np.float32), expected, rtol=1e-4)
