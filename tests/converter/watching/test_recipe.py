"""Recipe: what it may say, and the sentence for each mistake in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from typer.main import get_command_from_info

from converter.cli import app
from converter.commands.convert import convert
from converter.commands.watch import OWN_OPTIONS
from converter.errors import UsageError
from converter.watching.options import section_of
from converter.watching.recipe import load_recipe

if TYPE_CHECKING:
    from pathlib import Path

    from converter.watching.recipe import Recipe

PLACES = "source: a\noutput: b\nreports: c\n"


def recipe(folder: Path, text: str) -> Recipe:
    (folder / "watch.yaml").write_text(text)
    return load_recipe(folder / "watch.yaml", section_of(convert, without=OWN_OPTIONS))


def test_every_option_of_convert_is_a_key_or_belongs_to_the_watch() -> None:
    (info,) = (each for each in app.registered_commands if each.callback is convert)
    command = get_command_from_info(info, pretty_exceptions_short=False, rich_markup_mode=None)
    flags = {each for option in command.params if option.param_type_name == "option" for each in option.opts}
    keys = section_of(convert, without=OWN_OPTIONS).model_fields.keys()
    assert {f"--{key.replace('_', '-')}" for key in (*keys, *OWN_OPTIONS)} == flags - {"--help"}


def test_options_become_words_of_the_command_line(tmp_path: Path) -> None:
    found = recipe(
        tmp_path,
        PLACES
        + """
models:
  birds: {mean: [-1, 2.5, 3], std: 127.5, quantize: none, calibration: photos, evaluate: /photos, max_drop: 0.01,
    keep_float: [conv 1, conv_2], allow_code: false, license: CC0, input_size: 224x224}
  fish: {allow_code: true, labels: null}
  frogs:
""",
    )
    words = set(found.models["birds"].words)
    assert words == {
        *("--mean=-1,2.5,3", "--std=127.5", "--quantize=none", f"--calibration={tmp_path}/photos"),
        *("--evaluate=/photos", "--max-drop=0.01", "--keep-float=conv 1", "--keep-float=conv_2", "--license=CC0"),
        "--input-size=224x224",
    }
    assert found.models["fish"].words == ("--allow-code",)
    assert found.models["frogs"].words == ()


def test_relative_paths_start_at_the_folder_of_the_recipe(tmp_path: Path) -> None:
    found = recipe(tmp_path, f"{PLACES}key: d/e.key\npassword_file: ../f\nmodels: {{birds: {{}}}}\n")
    assert (found.source, found.output, found.reports) == (tmp_path / "a", tmp_path / "b", tmp_path / "c")
    assert (found.key, found.password_file) == (tmp_path / "d/e.key", tmp_path.parent / "f")


def test_missing_places_are_named(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    found = recipe(tmp_path, f"{PLACES}models: {{birds: {{labels: birds.txt}}}}\n")
    assert list(found.missing) == [
        f"The folder {tmp_path}/b does not exist (output). Create it, or mount its disk.",
        f"{tmp_path}/birds.txt does not exist (models.birds.labels). Create it, or correct the path.",
    ]


def test_placeholders_of_the_command_are_replaced(tmp_path: Path) -> None:
    found = recipe(tmp_path, f"{PLACES}command: [rsync, '{{name}}/{{version}}/']\nmodels: {{birds: {{}}}}\n")
    assert found.command_for("birds", 7) == ["rsync", "birds/7/"]


_BIRDS = "models: {birds: {}}\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", ": models is missing; add it."),
        ("models: {}\n", ", line 4: models dictionary should have at least 1 item after validation, not 0"),
        (f"{_BIRDS}ource: x\n", ", line 5: unknown key ource; did you mean source?"),
        (
            "models:\n  birds:\n    quantise: int8\n",
            ", line 6: unknown key models.birds.quantise; did you mean quantize?",
        ),
        ("models:\n  birds:\n    version: 3\n", ", line 6: unknown key models.birds.version; known keys: mean, "),
        (
            "models: {birds: {quantize: int4}}\n",
            ", line 4: models.birds.quantize must be 'int8', 'float16', 'dynamic' or ",
        ),
        ("models: {birds: {max_drop: 2}}\n", ", line 4: models.birds.max_drop must be at most 1.0, not 2."),
        (
            "models: {birds: {mean: true}}\n",
            ", line 4: models.birds.mean must be a string (put it in quotes), not True.",
        ),
        ("models: {birds/x: {}}\n", ", line 4: models.birds/x may only contain letters, digits, '_', '-' and '.', "),
        (f"{_BIRDS}command: rsync\n", ", line 5: command must be a list, not 'rsync'."),
        (f"{_BIRDS}command: []\n", ", line 5: command must have at least the name of a program, not []."),
        (
            f"{_BIRDS}command: ['{{modle}}']\n",
            ", line 5: command has {modle}; only {name} and {version} are replaced, ",
        ),
        (f"{_BIRDS}password_file: x\n", ": password_file is the password of a key. Add the key, or remove "),
        (f"{_BIRDS}  ource: x\n", ", line 5, column 3, is not valid YAML: "),
    ],
)
def test_mistakes_are_named_with_line_and_remedy(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(UsageError) as raised:
        recipe(tmp_path, PLACES + text)
    assert str(raised.value).startswith(f"{tmp_path}/watch.yaml{sentence}")


@pytest.mark.parametrize(
    ("source", "output", "reports", "sentence"),
    [
        ("a", "a/b", "c", "output {0}/a/b is inside source {0}/a"),
        ("a/b", "a", "c", "source {0}/a/b is inside output {0}/a"),
        ("a", "b", "b/c", "reports {0}/b/c is inside output {0}/b"),
        ("a", "b", "b", "reports {0}/b is inside output {0}/b"),
        ("a", "link/b", "c", "output {0}/a/b is inside source {0}/a"),
    ],
)
def test_folders_inside_one_another_are_refused(
    tmp_path: Path, source: str, output: str, reports: str, sentence: str
) -> None:
    (tmp_path / "link").symlink_to("a")
    with pytest.raises(UsageError) as raised:
        recipe(tmp_path, f"source: {source}\noutput: {output}\nreports: {reports}\n{_BIRDS}")
    said = sentence.replace("{0}", str(tmp_path))
    assert str(raised.value) == f"{tmp_path}/watch.yaml: {said}. Use separate folders."


def test_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"^The recipe /nowhere/watch\.yaml cannot be read: No such file or directory\.$"
    ):
        load_recipe(tmp_path / "/nowhere/watch.yaml", section_of(convert, without=OWN_OPTIONS))
