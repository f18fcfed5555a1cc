"""The commands of edge-convert, above all convert: output, exit codes, and that a refusal leaves no files."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest
from conversions import QUIET
from edge_convert import COMMAND, FED, ROOT, Outcome, in_a_process

from agent.model_file.metadata import read_model_file
from agent.runtimes.tensorflow import interrupts_held

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edge_convert import EdgeConvert

pytest.importorskip("tensorflow", reason="TensorFlow is only in .venv-converter")
pytestmark = pytest.mark.filterwarnings(*QUIET)

FLOAT = (*FED, "--quantize", "none")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """The path of a file in an empty folder."""
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "m.tflite"


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    (tmp_path / "labels.txt").write_text("blue\ngray\ngreen\nred\n")
    return tmp_path / "labels.txt"


@pytest.fixture
def to_float(small_saved_model: Path, labels: Path, edge_convert: EdgeConvert, output: Path) -> EdgeConvert:
    """Converts the small model to `output`, with additional arguments."""
    return functools.partial(edge_convert, "convert", small_saved_model, output, *FLOAT, "--labels", labels)


def assert_refused(outcome: Outcome, code: int, sentence: str, output: Path) -> None:
    """Checks for one sentence on standard error and for no output file."""
    assert (outcome.code, outcome.err, outcome.out) == (code, f"edge-convert: {sentence}\n", "")
    assert list(output.parent.iterdir()) == []


@pytest.mark.parametrize("command", ["convert", "evaluate", "inspect"])
def test_every_command_has_a_help_text(
    command: str, edge_convert: EdgeConvert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    outcome = edge_convert(command, "--help")
    assert outcome.code == 0
    assert "--debug" in outcome.out
    assert outcome.err == ""
    assert command in edge_convert("--help").out


def test_version_is_printed(edge_convert: EdgeConvert) -> None:
    assert edge_convert("--version") == Outcome(0, f"edge-convert {importlib.metadata.version('edge-agent')}\n", "")


def test_typer_errors_exit_with_2(edge_convert: EdgeConvert, output: Path) -> None:
    assert edge_convert("convert").code == 2
    assert edge_convert("convert", "a", output, "--quantize", "int4").code == 2
    assert edge_convert("convert", "a", output, "--max-drop", "2").code == 2
    assert edge_convert("train").code == 2


def test_convert_defaults_to_int8_and_takes_labels_from_class_folders(finished: Path) -> None:
    file = read_model_file(finished.read_bytes())
    assert file.inputs[0].dtype == "uint8"
    assert file.settings.labels == ("blue", "gray", "green", "red")
    assert file.name == "colors"
    assert [path.name for path in finished.parent.iterdir()] == ["colors.tflite"]


def test_output_can_be_a_folder(small_saved_model: Path, labels: Path, edge_convert: EdgeConvert, output: Path) -> None:
    outcome = edge_convert("convert", small_saved_model, output.parent, *FLOAT, "--labels", labels)
    assert (outcome.code, outcome.err) == (0, "")
    assert [path.name for path in output.parent.iterdir()] == ["colors.tflite"]


def test_file_in_output_folder_gets_the_full_name_of_the_saved_model(
    small_saved_model: Path, labels: Path, tmp_path: Path, edge_convert: EdgeConvert, output: Path
) -> None:
    source = shutil.copytree(small_saved_model, tmp_path / "colors_1.0_32")
    assert edge_convert("convert", source, output.parent, *FLOAT, "--labels", labels).code == 0
    assert [path.name for path in output.parent.iterdir()] == ["colors_1.0_32.tflite"]


def test_file_in_output_folder_gets_the_given_name(
    small_saved_model: Path, labels: Path, edge_convert: EdgeConvert, output: Path
) -> None:
    outcome = edge_convert(
        "convert", small_saved_model, output.parent, *FLOAT, "--labels", labels, "--name", "paints", "--json"
    )
    assert outcome.code == 0
    document = json.loads(outcome.out)
    assert document["labels"] == ["blue", "gray", "green", "red"]
    assert [model["path"] for model in document["models"]] == [str(output.parent / "paints.tflite")]
    assert read_model_file((output.parent / "paints.tflite").read_bytes()).name == "paints"


@pytest.mark.parametrize("given", [(), ("--mean", "0"), ("--std", "255")])
def test_missing_mean_and_std_are_refused_with_the_usual_values(
    given: tuple[str, ...], small_saved_model: Path, color_images: Path, edge_convert: EdgeConvert, output: Path
) -> None:
    sentence = (
        "The model does not state the value range that it was trained on. Give --mean and --std: 0 and 255 for 0..1, "
        "127.5 and 127.5 for -1..1, 0 and 1 for 0..255 (also if the model has a Rescaling layer)."
    )
    assert_refused(
        edge_convert("convert", small_saved_model, output, *given, "--calibration", color_images), 2, sentence, output
    )


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (("--mean", "0,0"), "--mean 0,0 is not valid. Give one number, or three separated by commas."),
        (("--mean", "none"), "--mean none is not valid. Give one number, or three separated by commas."),
        (("--std", "0"), "--std 0 is not valid. Give one nonzero number, or three separated by commas."),
        (("--std", "nan"), "--std nan is not valid. Give one nonzero number, or three separated by commas."),
        (("--input-size", "224"), "--input-size 224 is not valid. Use the form HEIGHTxWIDTH, such as 224x224."),
        (("--input-size", "0x32"), "--input-size 0x32 is not valid. Use the form HEIGHTxWIDTH, such as 224x224."),
        (("--input-size", "64x32"), "--input-size 64x32 does not fit the model, which accepts only ? x 32 x 32 x 3."),
        (("--signature", "train"), "The model has no signature 'train'. Available: serve, serving_default."),
        (("--max-drop", "0.1"), "--max-drop needs an evaluation. Give a folder of images: --evaluate DIR."),
        (("--report", "r.html"), "--report needs an evaluation. Give a folder of images: --evaluate DIR."),
        (("--deploy", "kitchen"), "--deploy kitchen is not a remote folder. Use the form USER@HOST:/PATH."),
        (
            ("--mean", "0.5", "--std", "0.25,0.5,0.5"),
            (
                "--std below 1 is for pixels from 0 to 1, but here pixels are 0 to 255. Multiply the values by 255: "
                "--mean 127.5 --std 63.75,127.5,127.5."
            ),
        ),
        (
            ("--evaluate", ".", "--report", "r.pdf"),
            "--report r.pdf: the name must end in .html. The figures are written next to it as .json.",
        ),
        (
            ("--keep-float", "conv_0"),
            "--keep-float and --explain apply only to int8. Use --quantize int8 or --all.",
        ),
        (
            ("--quantize", "int8"),
            "int8 needs images to measure value ranges. Give a folder of images: --calibration DIR.",
        ),
        (
            ("--target", "tflite-runtime==2.9"),
            (
                "--target tflite-runtime==2.9 is not supported. Use litert or tflite-runtime (or "
                "tflite-runtime==2.14, its last release and the only one that the agent supports)."
            ),
        ),
    ],
)
def test_wrong_options_exit_with_2_and_one_sentence(
    wrong: tuple[str, ...], sentence: str, output: Path, to_float: EdgeConvert
) -> None:
    outcome = to_float(*wrong)
    assert_refused(outcome, 2, sentence, output)


def test_report_in_a_missing_folder_is_refused_before_any_work(output: Path, to_float: EdgeConvert) -> None:
    report = output.parent / "absent" / "r.html"
    outcome = to_float("--evaluate", ".", "--report", report)
    assert_refused(outcome, 2, f"The folder {report.parent} does not exist. Create it first.", output)


def test_wrong_number_of_labels_is_refused(labels: Path, output: Path, to_float: EdgeConvert) -> None:
    labels.write_text("warm\ncold\n")
    outcome = to_float()
    sentence = f"{labels} has 2 labels, but the model has 4 outputs. Give one label per output."
    assert_refused(outcome, 2, sentence, output)


def test_missing_labels_are_refused(
    small_saved_model: Path, color_images: Path, edge_convert: EdgeConvert, output: Path
) -> None:
    sentence = (
        "The model has 4 outputs, but there are no labels for them{}. Give a file with one label per line: "
        "--labels FILE."
    )
    assert_refused(edge_convert("convert", small_saved_model, output, *FLOAT), 2, sentence.format(""), output)
    flat = color_images / "red"
    outcome = edge_convert("convert", small_saved_model, output, *FED, "--calibration", flat)
    assert_refused(outcome, 2, sentence.format(f" ({flat} has no class folders)"), output)
    outcome = edge_convert("convert", small_saved_model, output, *FLOAT, "--labels", output.parent / "absent.txt")
    sentence = f"{output.parent / 'absent.txt'} is not a file. Give a text file with one label per line."
    assert_refused(outcome, 2, sentence, output)


def test_unknown_layer_is_refused_with_similar_names(
    small_saved_model: Path, color_images: Path, edge_convert: EdgeConvert, output: Path
) -> None:
    outcome = edge_convert(
        "convert", small_saved_model, output, *FED, "--calibration", color_images, "--keep-float", "pol_1"
    )
    sentence = "The model has no layer 'pol_1'. Similar names: pool, conv_1, conv_2. --explain lists all layers."
    assert_refused(outcome, 2, sentence, output)


@pytest.mark.parametrize("option", ["--calibration", "--evaluate"])
def test_unusable_image_folder_exits_with_1(option: str, tmp_path: Path, output: Path, to_float: EdgeConvert) -> None:
    absent, empty = tmp_path / "absent", tmp_path / "empty"
    empty.mkdir()
    sentence = f"{absent} is not a folder. Give a folder with images, or with one subfolder per class."
    assert_refused(to_float(option, absent), 1, sentence, output)
    sentence = f"{empty} contains no images. Supported: JPEG, PNG, WebP, BMP and GIF files."
    assert_refused(to_float(option, empty), 1, sentence, output)


def test_class_folder_without_a_label_exits_with_1(
    labels: Path, color_images: Path, output: Path, to_float: EdgeConvert
) -> None:
    labels.write_text("blue\ngraey\ngreen\nred\n")
    outcome = to_float("--evaluate", color_images)
    sentence = (
        f"The folder name {color_images / 'gray'} matches none of the 4 labels; the closest is 'graey'. "
        "Rename the folder, or check the labels."
    )
    assert_refused(outcome, 1, sentence, output)


def test_unreadable_source_exits_with_1(
    small_saved_model: Path, labels: Path, tmp_path: Path, edge_convert: EdgeConvert, output: Path
) -> None:
    outcome = edge_convert("convert", tmp_path / "absent", output, *FLOAT, "--labels", labels)
    assert_refused(outcome, 1, f"{tmp_path / 'absent'} does not exist.", output)
    damaged = shutil.copytree(small_saved_model, tmp_path / "damaged")
    shutil.rmtree(damaged / "variables")
    sentence = "The SavedModel is not complete: variables/variables.index is missing. Copy the whole folder again."
    assert_refused(edge_convert("convert", damaged, output, *FLOAT, "--labels", labels), 1, sentence, output)
    sentence = f"{damaged} has no variables/variables.index. Copy the whole SavedModel folder."
    outcome = edge_convert("inspect", damaged)
    assert (outcome.code, outcome.err, outcome.out) == (1, f"edge-convert: {sentence}\n", "")


def test_existing_output_is_replaced_only_with_force(output: Path, to_float: EdgeConvert) -> None:
    output.write_bytes(b"earlier")
    outcome = to_float()
    assert (outcome.code, outcome.err) == (2, f"edge-convert: {output} already exists. Use --force to replace it.\n")
    assert output.read_bytes() == b"earlier"
    assert to_float("--force").code == 0
    assert read_model_file(output.read_bytes()).name == "m"


def test_output_in_a_missing_folder_exits_with_2(
    small_saved_model: Path, labels: Path, edge_convert: EdgeConvert, output: Path
) -> None:
    absent = output.parent / "absent" / "m.tflite"
    outcome = edge_convert("convert", small_saved_model, absent, *FLOAT, "--labels", labels)
    assert_refused(outcome, 2, f"The folder {absent.parent} does not exist. Create it first.", output)


def test_missing_tensorflow_is_reported_with_the_install_command(
    small_saved_model: Path, labels: Path, output: Path
) -> None:
    python = ROOT / ".venv" / "bin" / "python"
    if not python.exists():
        pytest.skip(".venv is missing; create it with make dev")
    command = (python, "-m", "converter.cli")
    done = in_a_process("convert", small_saved_model, output, *FLOAT, "--labels", labels, command=command)
    sentence = (
        f"edge-convert: TensorFlow is not installed. Install it: {python} -m pip install 'edge-agent[tensorflow]'\n"
    )
    assert (done.returncode, done.stderr, done.stdout) == (1, sentence, "")
    assert list(output.parent.iterdir()) == []


@pytest.mark.long
def test_debug_shows_the_traceback_and_tensorflows_messages(small_saved_model: Path, tmp_path: Path) -> None:
    damaged = shutil.copytree(small_saved_model, tmp_path / "damaged")
    (damaged / "variables" / "variables.index").write_bytes(b"")
    done = in_a_process("inspect", damaged, "--debug")
    *before, last = done.stderr.splitlines()
    assert done.returncode == 1
    assert "Traceback (most recent call last):" in before
    assert any("WARNING: All log messages before absl::InitializeLog()" in line for line in before)
    assert last.startswith(f"edge-convert: {damaged} cannot be loaded: ")


@pytest.mark.long
def test_ctrl_c_exits_with_130_and_leaves_no_file(
    small_saved_model: Path, color_images: Path, tmp_path: Path, output: Path
) -> None:
    images = shutil.copytree(color_images, tmp_path / "images")
    os.mkfifo(images / "red" / "99.png")
    arguments = ("convert", small_saved_model, output, *FED, "--calibration", images)
    with (
        subprocess.Popen([*COMMAND, *arguments], cwd=ROOT, stdout=-1, stderr=-1, text=True) as process,
        (images / "red" / "99.png").open("wb"),  # blocks until the command reads this image
    ):
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, out) == (130, "")
    assert err == "edge-convert: interrupted; no incomplete file was left behind.\n"
    assert list(output.parent.iterdir()) == []


def test_ctrl_c_waits_until_tensorflow_is_imported() -> None:
    steps = []

    def imported() -> None:
        with interrupts_held():
            signal.raise_signal(signal.SIGINT)
            steps.append("imported")

    with pytest.raises(KeyboardInterrupt):
        imported()
    assert steps == ["imported"]


def test_wrong_mean_gives_a_note_with_labeled_images(color_images: Path, to_float: EdgeConvert, output: Path) -> None:
    outcome = to_float("--mean", "40000", "--std", "1", "--evaluate", color_images)
    assert outcome.code == 0
    assert (
        "The source itself classifies only 25.0 % correctly, hardly more than by guessing. Check --mean" in outcome.err
    )
    assert output.exists()


def test_model_is_not_written_if_the_report_cannot_be_written(
    color_images: Path, output: Path, to_float: EdgeConvert, on_fsync: Callable[[Callable[[int], None]], None]
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    on_fsync(full)
    report = output.parent / "r.html"
    outcome = to_float("--evaluate", color_images, "--report", report)
    assert_refused(outcome, 1, f"{report} cannot be written: No space left on device.", output)


@pytest.mark.long
def test_reports_are_written_for_each_scheme_with_the_outcome(
    small_saved_model: Path, color_images: Path, output: Path, edge_convert: EdgeConvert
) -> None:
    report = output.parent / "r.html"
    outcome = edge_convert(
        *("convert", small_saved_model, output, "--all", *FED, "--calibration", color_images),
        *("--evaluate", color_images, "--report", report, "--target", "tflite-runtime", "--max-drop", "0"),
    )
    assert f"Report: {output.parent / 'r-none.html'}" in outcome.out
    pages = sorted(page.name for page in output.parent.glob("*.html"))
    assert {"r-float16.html", "r-int8.html", "r-none.html"} <= set(pages)
    assert "accepted" in (output.parent / "r-none.html").read_text()
