"""The pages of converter.report, parsed by html.parser, and their JSON files."""

from __future__ import annotations

import base64
import json
import os
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from agent.image import decode
from converter.errors import ConverterError
from converter.evaluation.answers import Answers
from converter.evaluation.evaluation import Evaluation
from converter.images.image_folder import FoundImage, ImageFolder
from converter.report.charts import confusion_chart
from converter.report.curve_chart import curve_chart
from converter.report.page import write_report
from converter.report.training_page import variant
from converter.training.search import CANDIDATES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from converter.training.fine_tuning import Candidate

LABELS = ("cat", "dog", "owl")
HOSTILE = "</title></style><script>alert('1')</script><img src=https://example.org/x onerror=x>\" 狐 \u202e" + "x" * 200
FACTS = {"Scheme": "int8", "Calibration images": "100"}
VOID = {"meta", "img"}


class Page(HTMLParser):
    """`tags` are in order, with attributes; `texts` are (path of open tags with classes, text)."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(markup)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.tags.append((tag, attributes))
        if tag not in VOID:
            self._open.append(".".join([tag, *attributes.get("class", "").split()]))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop().split(".")[0] == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((" ".join(self._open), data))

    def under(self, path: str) -> list[str]:
        """Texts whose path of open tags ends with `path`."""
        return [text for at, text in self.texts if at.endswith(path)]

    def named(self, tag: str, **attributes: str) -> list[dict[str, str]]:
        return [found for name, found in self.tags if name == tag and attributes.items() <= found.items()]

    @property
    def text(self) -> str:
        return "\n".join(text for at, text in self.texts if "style" not in at)


def answers(name: str, best: Sequence[int], labels: int, *, score: float = 0.75) -> Answers:
    scores = np.full((len(best), labels), (1 - score) / max(1, labels - 1), np.float32)
    scores[np.arange(len(best)), list(best)] = score
    return Answers(name, "LiteRT on CPU", 2_500_000, scores, np.linspace(2, 4, len(best), dtype=np.float32))


def evaluation(
    root: Path,
    *models: Sequence[int],
    truth: Sequence[int] | None = (0, 0, 1, 2),
    labels: tuple[str, ...] = LABELS,
    left_out: tuple[str, ...] = (),
) -> Evaluation:
    """An evaluation with the best answers of one or two models; writes up to ten image files and repeats them."""
    paths = [root / f"{number}.png" for number in range(min(10, len(models[0])))]
    for number, path in enumerate(paths):
        cv2.imwrite(str(path), np.full((40, 400, 3), 20 * number, np.uint8))
    images = tuple(FoundImage(paths[number % 10], None) for number in range(len(models[0])))
    names = ("flowers.keras", "flowers.tflite")[-len(models) :]
    found = tuple(answers(name, best, len(labels)) for name, best in zip(names, models, strict=True))
    return Evaluation(
        folder=ImageFolder(root, images),
        labels=labels,
        images=images,
        left_out=left_out,
        labeled=truth is not None,
        truth=found[0].best if truth is None else np.asarray(truth),
        answers=found,
    )


def write(tmp_path: Path, result: Evaluation, title: str = "flowers to int8") -> Page:
    write_report(tmp_path / "report.html", result, title=title, facts=FACTS)
    return Page((tmp_path / "report.html").read_text("utf-8"))


def cells(page: Page) -> dict[tuple[str, str], int]:
    """(row, column) → number of images, from the tooltips; checks that the cells show the same numbers."""
    found: dict[tuple[str, str], int] = {}
    for title, shown in zip(
        page.under("g.right title") + page.under("g.wrong title"),
        page.under("g.right text") + page.under("g.wrong text"),
        strict=True,
    ):
        row, column, count = re.fullmatch(r"(.+) classified as (.+): (\d+)", title).groups()  # type: ignore[union-attr]
        assert count == shown
        found[row, column] = int(count)
    return found


@pytest.fixture
def hostile(tmp_path: Path) -> Evaluation:
    return evaluation(tmp_path, (0, 1, 1, 2), (0, 0, 1, 2), labels=(HOSTILE, "dog", "owl"), left_out=(HOSTILE,))


def test_page_has_no_external_references(tmp_path: Path, hostile: Evaluation) -> None:
    page = write(tmp_path, hostile, HOSTILE)
    assert not {"script", "link", "iframe", "object", "embed", "base", "use", "a"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name in {"href", "xlink:href", "srcset"}]
        assert attributes.get("src", "data:").startswith("data:")
        assert "url(" not in "".join(attributes.values())
    style = "".join(page.under("head style"))
    assert not re.search(r"@import|url\(|https?:", style)
    (policy,) = page.named("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy["content"].startswith("default-src 'none'")


def test_hostile_labels_are_escaped(tmp_path: Path, hostile: Evaluation) -> None:
    page = write(tmp_path, hostile, HOSTILE)
    assert page.under("head title") == [HOSTILE]
    assert page.under("h1") == [HOSTILE]
    assert page.under("li") == [HOSTILE]
    assert HOSTILE in page.under("details div.wide table tbody tr th")
    assert len(page.named("style")) == 1


def test_page_declares_language_and_table_headings(tmp_path: Path) -> None:
    page = write(tmp_path, evaluation(tmp_path, (0, 1, 1, 2), (0, 0, 1, 2)))
    assert page.named("html", lang="en")
    assert page.named("meta", name="viewport")
    assert {found["scope"] for found in page.named("th")} == {"col", "row"}
    assert all(found["alt"] for found in page.named("img"))
    charts = page.under("svg title") + page.under("svg.scatter title") + page.under("svg.reliability title")
    assert len(charts) == len(page.named("svg", role="img")) == 3
    assert "prefers-color-scheme: dark" in "".join(page.under("style"))


def test_verdict_contains_the_lost_points(tmp_path: Path) -> None:
    lost = write(tmp_path, evaluation(tmp_path, (0, 0, 1, 2), (0, 1, 1, 2)))
    assert lost.under("p.verdict")[0] == (
        "On 4 labeled images, the finished model is 75.0 % correct and the source 100.0 %: "
        "25.0 percentage points lost. They agree on 75.0 %."
    )
    gained = write(tmp_path, evaluation(tmp_path, (1, 0, 1, 2), (0, 0, 1, 2)))
    assert "25.0 percentage points gained" in gained.text
    same = write(tmp_path, evaluation(tmp_path, (1, 0, 1, 2), (0, 1, 1, 2)))
    assert "75.0 %: nothing lost. They agree on 50.0 %." in same.text


def test_accuracy_just_below_one_is_not_shown_as_100_percent(tmp_path: Path) -> None:
    source, truth = [0] * 3000, [0] * 3000
    page = write(tmp_path, evaluation(tmp_path, source, [1, *source[1:]], truth=truth))
    (verdict,) = page.under("p.verdict")
    assert "is over 99.9 % correct and the source 100.0 %: under 0.1 percentage points lost" in verdict


def test_page_shows_figures_of_both_models_and_facts(tmp_path: Path) -> None:
    page = write(tmp_path, evaluation(tmp_path, (0, 0, 1, 2), (0, 1, 1, 2)))
    assert page.under("thead tr th span small") == ["flowers.keras", "flowers.tflite"]
    shown = page.under("table.figures tbody tr td")
    assert shown[:8] == [
        "LiteRT on CPU",
        "LiteRT on CPU",
        "2.50 MB",
        "2.50 MB",
        "100.0 %",
        "75.0 %",
        "100.0 %",
        "100.0 %",
    ]
    assert shown[8:] == ["1.000", "0.778", "3.00 ms", "3.00 ms", "3.90 ms", "3.90 ms"]
    assert page.under("table.facts tbody tr td") == list(FACTS.values())


def test_page_without_facts_has_no_conditions(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", evaluation(tmp_path, (0, 0, 1, 2)), title="flowers", facts={})
    assert "Conditions" not in (tmp_path / "report.html").read_text("utf-8")


def test_confusion_matrix_counts_true_classes_against_answers(tmp_path: Path) -> None:
    page = write(tmp_path, evaluation(tmp_path, (0, 0, 1, 2), (0, 1, 1, 1)))
    assert cells(page) == {("cat", "cat"): 1, ("cat", "dog"): 1, ("dog", "dog"): 1, ("owl", "dog"): 1}


def test_page_shows_only_the_most_confused_of_many_classes(tmp_path: Path) -> None:
    labels = tuple(f"class {number}" for number in range(50))
    right = list(range(50))
    page = write(tmp_path, evaluation(tmp_path, right, [*right[:-2], 49, 48], truth=right, labels=labels))
    shown = cells(page)
    assert len({row for row, _ in shown}) == 30
    assert shown["class 48", "class 49"] == shown["class 49", "class 48"] == 1
    assert "Of 50 classes, the 30 with the most wrong answers are shown." in page.text
    assert "Of 50 classes, the 40 with the lowest F1 are shown." in page.text
    bars = page.under("table.f1 tbody tr th span")
    assert len(bars) == 40
    assert bars[:3] == ["class 48", "class 49", "class 0"]
    assert page.under("details div.wide table tbody tr th") == list(labels)


def test_confusion_matrix_of_five_short_names_fits_a_phone() -> None:
    names = ["birds", "flowers", "fruit", "houses", "vegetables"]
    chart = confusion_chart(np.eye(5, dtype=np.int64), np.eye(5, dtype=np.float32), names, rows="true class")
    assert int(chart.attrib["width"]) <= 360


@pytest.mark.parametrize("candidate", CANDIDATES)
def test_name_of_a_fine_tuned_variant_fits_next_to_its_line(candidate: Candidate) -> None:
    chart = curve_chart([1], ["1"], [(variant(candidate), np.ones((1,), np.float32))])
    assert f"{variant(candidate)} 100 %" in [text.text for text in chart.iter("text")]


def test_page_has_f1_bars_for_both_models(tmp_path: Path) -> None:
    page = write(tmp_path, evaluation(tmp_path, (0, 0, 1, 2), (0, 1, 1, 2)))
    widths = {
        role: [bar["width"] for bar in page.named("rect", **{"class": f"bar {role}"})] for role in ("source", "model")
    }
    assert widths == {"source": ["100.0"] * 3, "model": ["66.7", "66.7", "100.0"]}


def test_page_shows_changed_images_with_both_answers(tmp_path: Path) -> None:
    page = write(tmp_path, evaluation(tmp_path, (0, 0, 1, 2), (0, 1, 1, 2)))
    (image,) = page.named("img")
    small = decode(base64.b64decode(image["src"].removeprefix("data:image/jpeg;base64,")))
    assert (small.width, small.height) == (160, 16)
    assert image["alt"] == "Image 1.png"
    assert page.under("figcaption dl dd") == ["cat", "✓\u00a0cat ", "✗\u00a0dog "]
    assert page.under("dd b") == ["0.75", "0.75"]
    assert len(page.named("path", **{"class": "changed"})) == 1
    assert len(page.named("circle", **{"class": "same"})) == 3


def test_scatter_chart_places_points_by_both_scores(tmp_path: Path) -> None:
    page = write(tmp_path, evaluation(tmp_path, (0,), (0,), truth=(0,)))
    (point,) = page.named("circle", **{"class": "same"})
    assert (point["cx"], point["cy"]) == ("352.0", "112.0")  # 0.75 of 400 from the left and from the bottom


def test_page_replaces_a_removed_image_by_a_text(tmp_path: Path) -> None:
    result = evaluation(tmp_path, (0, 0, 1, 2), (0, 1, 1, 2))
    (tmp_path / "1.png").unlink()
    page = write(tmp_path, result)
    assert not page.named("img")
    assert page.under("figure span.missing") == ["can no longer be read"]


def test_page_says_that_no_image_changed(tmp_path: Path) -> None:
    page = write(tmp_path, evaluation(tmp_path, (0, 0, 1, 2), (0, 0, 1, 2)))
    assert "None of 4 images." in page.text
    assert not page.named("figure")


def test_page_of_one_model_has_no_comparison(tmp_path: Path) -> None:
    page = write(tmp_path, evaluation(tmp_path, (0, 0, 1, 1)))
    assert page.under("p.verdict") == ["On 4 labeled images, the finished model is 75.0 % correct."]
    assert "ource" not in page.text
    assert page.under("h2") == ["Figures", "Conditions", "Confusion matrix", "F1 per class", "What a score means"]
    assert cells(page)["owl", "dog"] == 1


def test_page_without_class_folders_uses_the_source_as_reference(tmp_path: Path) -> None:
    page = write(tmp_path, evaluation(tmp_path, (0, 0, 1, 2), (0, 1, 1, 2), truth=None))
    assert page.under("p.verdict")[0] == (
        "On 4 images, the finished model and the source agree on 75.0 %. "
        "There are no class folders, so the source's answers count as correct."
    )
    assert page.under("table.figures tbody tr td")[4:6] == ["reference", "75.0 %"]
    assert "source's answer ↓" in page.text
    assert page.under("figcaption dl dt") == ["Source", "Model"]
    assert not page.named("rect", **{"class": "bar source"})


def test_page_lists_at_most_200_skipped_images(tmp_path: Path) -> None:
    reasons = tuple(f"{number}.jpg: The image is damaged." for number in range(201))
    page = write(tmp_path, evaluation(tmp_path, (0, 0, 1, 2), left_out=reasons))
    assert page.under("ul li") == list(reasons[:200])
    assert "201 images could not be read and are not counted. Only the first 200 are shown." in page.text


def test_json_contains_the_same_figures(tmp_path: Path, hostile: Evaluation) -> None:
    write(tmp_path, hostile)
    figures = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert figures == {"title": "flowers to int8", "facts": FACTS, "evaluation": hostile.to_json()}


def test_file_name_with_invalid_utf8_is_escaped(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg: damaged")
    page = write(tmp_path, evaluation(tmp_path, (0, 0, 1, 2), left_out=(name,)))
    assert page.under("li") == ["caf\\udce9.jpg: damaged"]
    assert json.loads((tmp_path / "report.json").read_text("utf-8"))["evaluation"]["left_out"] == [name]


def test_page_with_many_labels_and_images_stays_small(tmp_path: Path) -> None:
    labels = tuple(f"{number} {'狐' * 196}" for number in range(1000))
    source = [number % 1000 for number in range(2500)]
    model = [(best + number % 2) % 1000 for number, best in enumerate(source)]
    page = write(tmp_path, evaluation(tmp_path, source, model, truth=source, labels=labels))
    assert (tmp_path / "report.html").stat().st_size < 3_000_000
    assert len(page.named("img")) == 48
    assert "1250 of 2500 images, highest score of the source first. Only the first 48 are shown." in page.text
    assert "An even sample of 2000 of the 2500 images is shown." in page.text
    assert len(page.named("circle", **{"class": "same"})) + len(page.named("path", **{"class": "changed"})) == 2000


@pytest.mark.parametrize("broken", ["os.fsync", "pathlib.Path.replace"])
def test_full_disk_leaves_the_earlier_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    result = evaluation(tmp_path, (0, 0, 1, 2))
    write(tmp_path, result, "before")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(broken, full)
    with pytest.raises(ConverterError, match=r"report\.html cannot be written: No space left"):
        write(tmp_path, result, "after")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_interrupted_write_leaves_no_incomplete_report(
    tmp_path: Path, on_fsync: Callable[[Callable[[int], None]], None]
) -> None:
    result = evaluation(tmp_path, (0, 0, 1, 2))
    before = set(tmp_path.iterdir())
    seen: list[str] = []

    def interrupted(_: int) -> None:
        seen.extend(path.name for path in tmp_path.glob(".*"))
        raise KeyboardInterrupt

    on_fsync(interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, result)
    assert seen == [f".report.html.{os.getpid()}.part"]
    assert set(tmp_path.iterdir()) == before
