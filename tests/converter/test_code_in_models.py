"""Code in model files: files of Keras that would create a marker file if anything in them ran."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
from conversions import untracked

from agent.errors import AgentError
from converter import cli
from converter.errors import TrainedModelError
from converter.inspection import inspect_source
from converter.source.keras_config import check_config
from converter.source.source import open_source

if TYPE_CHECKING:
    from collections.abc import Callable

tf = pytest.importorskip("tensorflow", reason="TensorFlow has an environment of its own: .venv-converter")

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword", "ignore:You are saving your model as an HDF5 file"
)

DIGITS = Path(__file__).parents[2] / "demo" / "digits.tflite"
FORMATS = ("3.keras", "3.h5", "2.keras", "2.h5")


def keras_of(name: str) -> Any:
    import tf_keras  # noqa: PLC0415  (beside Keras 3, as few need it)

    return tf.keras if name.startswith("3") else tf_keras


def plain(name: str, folder: Path) -> Path:
    """A model of a harmless layer, which the tests replace, saved as Keras 3 or 2 does."""
    keras = keras_of(name)
    scaled = keras.layers.Rescaling(2.0, name="scaled")
    model = keras.Sequential([keras.layers.Input((8, 8, 3)), scaled, keras.layers.Flatten(), keras.layers.Softmax()])
    model.save(folder / name)
    return folder / name


def with_bytecode(name: str, folder: Path) -> Path:
    """A model with a Lambda layer in bytecode, as Keras itself saves it, that creates `ran` in `folder`."""
    keras, marker = keras_of(name), str(folder / "ran")
    run = eval(f"lambda x: (__import__('pathlib').Path({marker!r}).touch(), x)[1]")
    layers = [keras.layers.Input((8, 8, 3)), keras.layers.Lambda(run, output_shape=(8, 8, 3)), keras.layers.Flatten()]
    keras.Sequential(layers).save(folder / name)
    (folder / "ran").unlink(missing_ok=True)  # building the model may have run it
    return folder / name


def change_config(path: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """Puts what `change` makes of the whole configuration into the file."""
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            text = archive.read("config.json").decode()
    else:
        with h5py.File(path) as file:
            text = file.attrs["model_config"]
    return write_config(path, json.dumps(change(json.loads(text))))


def write_config(path: Path, text: str) -> Path:
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        parts["config.json"] = text.encode()
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in parts.items():
                archive.writestr(name, content)
    else:
        with h5py.File(path, "r+") as file:
            file.attrs["model_config"] = text.encode()
    return path


def layer_replaced(layer: dict[str, Any]) -> Callable[[dict[str, Any]], Any]:
    def change(config: dict[str, Any]) -> dict[str, Any]:
        layers = config["config"]["layers"]
        (place,) = [number for number, each in enumerate(layers) if each["class_name"] == "Rescaling"]
        layers[place] = layer
        return config

    return change


def refusal(path: Path) -> str:
    with pytest.raises(AgentError) as raised:
        open_source(path)
    said = str(raised.value)
    assert str(path) in said
    assert said.endswith(".")
    assert not list(path.parent.glob("ran*"))
    return said


@pytest.mark.parametrize("name", FORMATS)
def test_bytecode_of_a_lambda_layer_runs_only_if_code_is_allowed(name: str, tmp_path: Path) -> None:
    path = with_bytecode(name, tmp_path)
    assert "contains a Lambda layer, which can run any code on this computer, so it was not opened. " in refusal(path)
    assert "use --allow-code" in refusal(path)
    source = open_source(path, allow_code=True)
    source.calls["call"](image=tf.zeros((1, 8, 8, 3)))
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["3.h5", "2.h5"])
@pytest.mark.parametrize("version", ["2.15.0", "3.9.0", "1.2.2", "", "junk", None])
def test_bytecode_does_not_run_whatever_version_the_file_claims(name: str, version: str | None, tmp_path: Path) -> None:
    path = with_bytecode(name, tmp_path)
    with h5py.File(path, "r+") as file:
        del file.attrs["keras_version"]
        if version is not None:
            file.attrs["keras_version"] = version
    assert "contains a Lambda layer" in refusal(path)


@pytest.mark.parametrize("ending", [".h5", ".keras", ".bin", ""])
def test_bytecode_does_not_run_whatever_the_file_is_called(ending: str, tmp_path: Path) -> None:
    for name in ("2.h5", "3.keras"):
        path = with_bytecode(name, tmp_path).rename(tmp_path / f"renamed{ending}")
        assert "contains a Lambda layer" in refusal(path)


def test_bytecode_in_a_zip_does_not_run(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        archive.write(with_bytecode("2.h5", tmp_path), "folder/m.h5")
    assert "contains a Lambda layer" in refusal(tmp_path / "m.zip")


SYSTEM = {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"}
BYTECODE = {"class_name": "__lambda__", "config": {"value": ["4wEAAAA=", None, None]}}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (
            {"class_name": "Lambda", "config": {"function": "system", "module": "os", "function_type": "function"}},
            "contains a Lambda layer",
        ),
        ({"module": "keras.layers", "class_name": "Lambda", "config": {"function": SYSTEM}}, "contains a Lambda layer"),
        ({"module": "subprocess", "class_name": "Popen", "config": {"args": "touch ran"}}, "its layer 'Popen'"),
        ({"module": "os", "class_name": "Dense", "config": {"units": 2}}, "its layer 'Dense'"),
        ({"class_name": "Dense", "config": {"units": 2}, "registered_name": "evil>Dense"}, "its layer 'Dense'"),
        ({"class_name": "Activation", "config": {"activation": SYSTEM}}, "its function 'system'"),
        ({"class_name": "Activation", "config": {"activation": BYTECODE}}, "contains a function in Python bytecode"),
        ({"class_name": "Activation", "config": {"activation": "keras>system"}}, "its activation 'keras>system'"),
        (
            {"class_name": "TimeDistributed", "config": {"layer": {"class_name": "Lambda", "config": {}}}},
            "contains a Lambda layer",
        ),
        (
            {"class_name": "Sequential", "config": {"layers": [[{"class_name": "Lambda", "config": {}}]]}},
            "contains a Lambda layer",
        ),
        (
            {"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "/tmp/evil"}},
            "contains a TFSMLayer layer",
        ),
        (
            {"module": "keras.layers", "class_name": "TorchModuleWrapper", "config": {"module": "gASVAA=="}},
            "contains a TorchModuleWrapper layer",
        ),
        (
            {"module": "keras.layers", "class_name": "StringLookup", "config": {"vocabulary": "/etc/passwd"}},
            "contains a StringLookup layer",
        ),
        (
            {"class_name": "TFOpLambda", "config": {"name": "write", "function": "io.write_file"}},
            "contains a call of io.write_file",
        ),
        (
            {"class_name": "TensorFlowOpLayer", "config": {"node_def": "WriteFile"}},
            "contains a TensorFlowOpLayer layer",
        ),
        ({"class_name": "__typespec__", "spec_name": "Popen", "module": "subprocess"}, "contains a __typespec__ layer"),
        (
            {"module": "keras.utils", "class_name": "get_file", "config": {"origin": "http://127.0.0.1/"}},
            "its layer 'get_file'",
        ),
        (
            {
                "module": "keras.config",
                "class_name": "function",
                "config": "enable_unsafe_deserialization",
                "registered_name": "function",
            },
            "its function 'enable_unsafe_deserialization'",
        ),
    ],
)
def test_class_or_function_that_keras_would_look_up_is_refused(
    name: str, layer: dict[str, Any], said: str, plain_files: dict[str, bytes], tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(plain_files[name])
    assert said in refusal(change_config(path, layer_replaced(layer)))


@pytest.fixture(scope="module")
def plain_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("plain")
    return {name: plain(name, folder).read_bytes() for name in FORMATS}


@pytest.mark.parametrize("name", FORMATS)
def test_file_without_code_is_still_read_when_its_config_was_only_checked(
    name: str, plain_files: dict[str, bytes], tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(plain_files[name])
    scores = open_source(tmp_path / name).calls["call"](image=tf.ones((1, 8, 8, 3)))
    np.testing.assert_allclose(next(iter(scores.values())), np.full((1, 192), 1 / 192), atol=1e-6)


@pytest.mark.parametrize("name", FORMATS)
def test_optimizers_and_losses_of_an_inner_model_are_never_made(
    name: str, plain_files: dict[str, bytes], tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(plain_files[name])
    change_config(path, lambda config: config | {"compile_config": {"loss": SYSTEM, "optimizer": BYTECODE}})
    assert open_source(path).signatures


@pytest.mark.parametrize("name", ["3", "2"])
def test_every_public_layer_is_known_to_be_allowed_or_not(name: str, tmp_path: Path) -> None:
    def is_refused(layer: str) -> bool:
        try:
            check_config({"class_name": layer, "config": {}}, tmp_path)
        except TrainedModelError:
            return True
        return False

    refused = set(filter(is_refused, dir(keras_of(name).layers)))
    code = {"IntegerLookup", "Lambda", "StringLookup", "TextVectorization"}
    only = {"3": {"FlaxLayer", "JaxLayer", "TFSMLayer", "TorchModuleWrapper"}, "2": {"DenseFeatures"}}
    bases = {"AbstractRNNCell", "HashedCrossing", "Input", "Layer", "Wrapper"}
    assert {layer for layer in refused if layer[0].isupper()} - bases == code | only[name]


@pytest.mark.filterwarnings("ignore:The `keras.initializers.serialize")
@pytest.mark.long
def test_config_of_a_published_architecture_is_allowed(tmp_path: Path) -> None:
    model = keras_of("2").applications.EfficientNetV2B0(weights=None, classes=2, input_shape=(32, 32, 3))
    check_config(json.loads(model.to_json()), tmp_path)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("[]", "is not a Keras model, or damaged: its configuration is not a JSON object."),
        ('"os.system"', "is not a Keras model, or damaged: its configuration is not a JSON object."),
        ('{"a":' * 900 + "1" + "}" * 900, "is not a Keras model, or damaged: maximum recursion depth exceeded"),
        ("{}", " no model whose input is known. | cannot be loaded: "),
    ],
)
def test_configuration_that_is_not_of_a_model_is_refused(
    name: str, config: str, said: str, plain_files: dict[str, bytes], tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(plain_files[name])
    refused = refusal(write_config(path, config))
    assert any(part in refused for part in said.split("|"))


@pytest.mark.filterwarnings("ignore:You are saving a model that has not yet been built")
@pytest.mark.parametrize("name", ["3.keras", "2.keras"])
def test_model_that_was_never_called_is_refused_with_what_to_do(name: str, tmp_path: Path) -> None:
    keras = keras_of(name)
    keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(2)]).save(tmp_path / name)
    assert "contains no model whose input is known. Call the model on an image before it is saved" in refusal(
        tmp_path / name
    )


@pytest.mark.parametrize("kind", ["TensorShape", "__tuple__"])
def test_shape_of_an_older_keras_is_read(kind: str, plain_files: dict[str, bytes], tmp_path: Path) -> None:
    def change(config: dict[str, Any]) -> dict[str, Any]:
        config["config"]["build_input_shape"] = {"class_name": kind, "items": [None, 8, 8, 3]}
        return config

    path = tmp_path / "2.h5"
    path.write_bytes(plain_files["2.h5"])
    assert open_source(change_config(path, change)).signatures[0].inputs[0].shape == (-1, 8, 8, 3)


def take_values(file: h5py.File, place: str, secret: Path) -> None:
    file.create_dataset(place, (192, 1), "float32", external=[(str(secret), 0, 768)])


def take_a_dataset(file: h5py.File, place: str, secret: Path) -> None:
    layout = h5py.VirtualLayout((192, 1), "float32")
    layout[:] = h5py.VirtualSource(str(secret), "x", (192, 1))
    file.create_virtual_dataset(place, layout)


def link(file: h5py.File, place: str, secret: Path) -> None:
    file[place] = h5py.ExternalLink(str(secret), "/x")


def claim_a_terabyte(file: h5py.File, place: str, secret: Path) -> None:
    file.create_dataset(place, (1 << 38,), "float32")


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (take_values, "from another file on this computer, so it was not opened."),
        (take_a_dataset, "from another file on this computer, so it was not opened."),
        (link, "from another file on this computer, so it was not opened."),
        (claim_a_terabyte, "in it claims 1099511627776 bytes, which it does not have."),
    ],
)
def test_weights_from_another_file_are_refused(
    name: str, change: Callable[[h5py.File, str, Path], None], said: str, plain_files: dict[str, bytes], tmp_path: Path
) -> None:
    path, weights = tmp_path / name, tmp_path / "weights.h5"
    path.write_bytes(plain_files[name])
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(768))
    if name.endswith(".h5"):
        weights = path
    else:
        with zipfile.ZipFile(path) as archive:
            parts = {part: archive.read(part) for part in archive.namelist()}
        weights.write_bytes(parts["model.weights.h5"])
    with h5py.File(weights, "r+") as file:
        change(file, "model_weights/scaled/elsewhere", secret)
    if weights != path:
        with zipfile.ZipFile(path, "w") as archive:
            for part, content in (parts | {"model.weights.h5": weights.read_bytes()}).items():
                archive.writestr(part, content)
    assert said in refusal(path)


@pytest.mark.parametrize("name", FORMATS)
def test_no_command_runs_code_unless_it_is_allowed(
    name: str, color_images: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = str(with_bytecode(name, tmp_path))
    for words in (
        ["inspect", path],
        ["inspect", path, "--json", "--debug"],
        ["convert", path, str(tmp_path / "m.tflite"), "--mean", "0", "--std", "1", "--calibration", str(color_images)],
        ["evaluate", str(DIGITS), str(color_images), "--source", path],
    ):
        with pytest.raises(SystemExit) as ended:
            cli.main(words)
        assert ended.value.code == 1
        assert "--allow-code" in capfd.readouterr().err
        assert not (tmp_path / "ran").exists()
    with pytest.raises(SystemExit) as ended:
        cli.main(["inspect", path, "--allow-code"])
    assert ended.value.code == 0
    assert (tmp_path / "ran").exists()


def test_saved_model_of_keras_2_does_not_run_the_bytecode_in_its_metadata(tmp_path: Path) -> None:
    path = with_bytecode("2", tmp_path)
    assert b"Lambda" in (path / "keras_metadata.pb").read_bytes()
    (tmp_path / "ran").unlink(missing_ok=True)  # tracing the layer to save it ran it
    document = inspect_source(path, track=untracked)
    assert document["signatures"]
    assert not (tmp_path / "ran").exists()


def test_zip_cannot_write_outside_of_its_folder(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        archive.writestr("m/saved_model.pb", b"")
        archive.writestr("m/../../../ran", b"")
        archive.writestr("m/variables/../../../ran2", b"")
    with pytest.raises(
        TrainedModelError, match=r"has a file with the path 'm/\.\./\.\./\.\./ran', so it was not unpacked"
    ):
        open_source(tmp_path / "m.zip")
    assert not list(tmp_path.glob("ran*"))
