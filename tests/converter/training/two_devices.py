"""A child process: trains on two halves of the processor, and with float16; compares with one device and float32.

Machines with GPUs are rare in tests.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from conversions import untracked

from agent.runtimes.tensorflow import import_tensorflow
from converter.training import fine_tuning, search, training
from converter.training.fine_tuning import Candidate
from converter.training.strategy import Strategy, strategy_of
from converter.training.training import Training, TrainingRequest, train_and_write


def _trained(photos: Path, output: Path, strategy: Strategy) -> Training:
    setattr(training, "strategy_of_host", lambda: strategy)  # noqa: B010  (mypy: it is not exported)
    return train_and_write(TrainingRequest(photos=photos, output=output, folds=1, minutes=1000), track=untracked)


def read_graph(content: bytes) -> Any:
    """Without the weights, which would make a long text."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel  # noqa: PLC0415

    graph = SavedModel.FromString(content).meta_graphs[0].graph_def
    for node in graph.node:
        node.attr["value"].tensor.ClearField("tensor_content")
    return graph


def main(photos: Path, work: Path) -> None:
    tf = import_tensorflow()
    processor = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)
    setattr(search, "CANDIDATES", (Candidate(0.1, 1e-3),))  # noqa: B010  (mypy: of another length)
    fine_tuning._MOST_EPOCHS = 1
    one = _trained(photos, work / "one", strategy_of((), mixed=False))
    two = _trained(photos, work / "two", strategy_of(("CPU:0", "CPU:1"), mixed=False))
    half = _trained(photos, work / "half", strategy_of((), mixed=True))
    assert one.files.keys() == two.files.keys() == half.files.keys()
    for other, tolerance in ((two, 1e-3), (half, 0.05)):
        np.testing.assert_allclose(other.scores, one.scores, atol=max(0.01, tolerance))  # the familiarity is steep
        assert one.search is not None
        assert other.search is not None
        np.testing.assert_allclose(other.search.tried[0].history, one.search.tried[0].history, atol=tolerance)
    assert "DT_HALF" not in str(read_graph(half.files["saved_model.pb"]))
    print("equal")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
