"""Report: an evaluation as one self-contained HTML page, and the same figures as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from converter.evaluation.calibration_error import BINS
from converter.evaluation.evaluation import percent
from converter.evaluation.figures import class_figures
from converter.report.charts import bars, clip, confusion_chart, element, reliability_chart, scatter_chart, thumbnail
from converter.report.document import counted, document, facts_section, section, size_text, table, wide, write_page

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from xml.etree.ElementTree import Element

    import numpy.typing as npt

    from converter.evaluation.answers import Answers
    from converter.evaluation.evaluation import Evaluation
    from converter.evaluation.figures import ClassFigures

    Ints: TypeAlias = npt.NDArray[np.int64]

_MOST_CLASSES_CONFUSED = 30
_MOST_BARS = 40
_MOST_POINTS = 2000
_MOST_THUMBNAILS = 48
_MOST_LEFT_OUT = 200
_ROLES = {"source": "Source", "model": "Finished model"}


def write_report(path: Path, evaluation: Evaluation, *, title: str, facts: Mapping[str, str]) -> None:
    """Write the page to `path` and its figures next to it, with the extension .json. Raises ConverterError."""
    figures = {"title": title, "facts": dict(facts), "evaluation": evaluation.to_json()}
    write_page(path, _page(evaluation, title, facts), figures)


@dataclass(frozen=True, slots=True)
class _Model:
    """`role` is source or model; `judged` is False if its own answers count as correct."""

    role: str
    answers: Answers
    judged: bool
    confusion: Ints
    figures: ClassFigures


def _models(evaluation: Evaluation) -> tuple[_Model, ...]:
    roles = tuple(_ROLES)[-len(evaluation.answers) :]
    confusions = [answers.confusion(evaluation.truth) for answers in evaluation.answers]
    return tuple(
        _Model(role, answers, evaluation.labeled or number > 0, confusion, class_figures(confusion))
        for number, (role, answers, confusion) in enumerate(zip(roles, evaluation.answers, confusions, strict=True))
    )


def _page(evaluation: Evaluation, title: str, facts: Mapping[str, str]) -> Element:
    models = _models(evaluation)
    sections = (
        _figures(evaluation, models),
        facts_section(facts),
        _confusion(evaluation, models[-1]),
        _classes(evaluation, [model for model in models if model.judged]),
        _reliability(evaluation),
        _scores(evaluation),
        _changed(evaluation),
        _left_out(evaluation),
    )
    verdict = " ".join(filter(None, (evaluation.verdict, evaluation.training_note)))
    return document(title, verdict, [part for part in sections if part is not None])


def _figures(evaluation: Evaluation, models: Sequence[_Model]) -> Element:
    truth = evaluation.truth
    columns = [
        (
            model.answers.ran_on,
            size_text(model.answers.size_bytes),
            percent(model.answers.accuracy(truth, among=1)) if model.judged else "reference",
            percent(model.answers.accuracy(truth, among=5)) if model.judged else "reference",
            f"{model.figures.macro_f1:.3f}" if model.judged else "reference",
            f"{np.median(model.answers.invoke_ms):.2f} ms",
            f"{np.percentile(model.answers.invoke_ms, 95):.2f} ms",
        )
        for model in models
    ]
    rows = ("Ran on", "Size", "Top-1", "Top-5", "Macro F1", "Time per image, median", "Time per image, 95th percentile")
    head = [element("span", _ROLES[model.role], element("small", clip(model.answers.name, 60))) for model in models]
    return section("Figures", table(["", *head], zip(rows, *columns, strict=True), class_="figures"))


def _confusion(evaluation: Evaluation, model: _Model) -> Element | None:
    if not model.judged:
        return None
    shown, occurring = _most_confused(model), len(model.figures.occurring)
    rows = "true class" if evaluation.labeled else "source's answer"
    text = (
        f"Rows are the {rows}, columns the finished model's answer. A stronger color means a larger share of the row."
    )
    if len(shown) < occurring:
        text += f" Of {occurring} classes, the {len(shown)} with the most wrong answers are shown."
    counts = model.confusion[np.ix_(shown, shown)]
    shares = counts / np.maximum(model.figures.images[shown, None], 1)
    chart = confusion_chart(counts, shares.astype(np.float32), [evaluation.labels[index] for index in shown], rows=rows)
    return section("Confusion matrix", element("p", text), wide(chart, "Confusion matrix"))


def _most_confused(model: _Model) -> list[int]:
    """Up to 30 of the occurring classes, in the order of the labels."""
    occurring = model.figures.occurring
    wrong = model.figures.images + model.figures.answers - 2 * model.confusion.diagonal()
    worst = occurring[np.argsort(-wrong[occurring], kind="stable")][:_MOST_CLASSES_CONFUSED]
    return sorted(worst.tolist())


def _classes(evaluation: Evaluation, models: Sequence[_Model]) -> Element | None:
    if not models:
        return None
    occurring = models[-1].figures.occurring
    lowest = occurring[np.argsort(models[-1].figures.f1[occurring], kind="stable")][:_MOST_BARS]
    text = "Lowest first. F1 is 1 if all images of a class, and no others, are classified as this class."
    if len(lowest) < len(occurring):
        text += f" Of {len(occurring)} classes, the {len(lowest)} with the lowest F1 are shown."
    return section(
        "F1 per class",
        element("p", text),
        _bars(evaluation, models, lowest),
        element("details", element("summary", "All classes as a table"), _class_table(evaluation, models)),
    )


def _bars(evaluation: Evaluation, models: Sequence[_Model], indices: Ints) -> Element:
    keys = [element("span", _ROLES[model.role], class_=f"key {model.role}") for model in models]

    def rows() -> Iterator[Sequence[Element | str]]:
        for index in indices.tolist():
            shares = [(model.role, float(model.figures.f1[index])) for model in models]
            label = evaluation.labels[index]
            yield element("span", clip(label, 40), title=label), bars(shares), *(f"{f1:.2f}" for _, f1 in shares)

    return table(["Class", "F1", *keys], rows(), class_="f1")


def _class_table(evaluation: Evaluation, models: Sequence[_Model]) -> Element:
    measures = [f"{_ROLES[model.role]}: {name}" for model in models for name in ("precision", "recall", "F1")]

    def rows() -> Iterator[Sequence[Element | str]]:
        every = np.unique(np.concatenate([model.figures.occurring for model in models]))
        for index in every.tolist():
            values = [
                f"{values[index]:.3f}"
                for model in models
                for values in (model.figures.precision, model.figures.recall, model.figures.f1)
            ]
            yield evaluation.labels[index], str(models[0].figures.images[index]), *values

    every_class = table(["Class", "Images", *measures], rows())
    return wide(every_class, "All classes")


def _reliability(evaluation: Evaluation) -> Element | None:
    """How often the finished model is right at each score, before and after its temperature."""
    found, fitted = evaluation.reliability, evaluation.fitted
    if found is None:
        return None
    curves = [("model", found)]
    keys = [element("span", "the file", class_="key model")]
    if fitted is not None and fitted.temperature is not None:
        curves.insert(0, ("source", fitted.before))
        keys = [
            element("span", "without the temperature", class_="key source"),
            element("span", "with it, as in the file", class_="key model"),
        ]
    text = (
        "If scores mean what they say, 80 of 100 answers with a score of 0.8 are right, and every point is on the "
        "diagonal. Below it, the model is too sure. The calibration error is the mean distance from the diagonal over "
        f"the images, in {BINS} bins of the score."
    )
    if fitted is not None and fitted.after is not None:
        text += " Figures after a fit are cross-fitted: no image was judged by a fit to itself."
    said = [element("p", sentence) for sentence in evaluation.score_sentences]
    return section("What a score means", *said, element("p", text), element("p", *keys), reliability_chart(curves))


def _scores(evaluation: Evaluation) -> Element | None:
    source, model, largest = evaluation.source, evaluation.model, evaluation.largest_difference
    if source is None or largest is None:
        return None
    every = np.arange(len(evaluation.images))
    shown = every[np.linspace(0, len(every) - 1, min(len(every), _MOST_POINTS)).astype(int)]
    best = source.best[shown]
    x, y = source.scores[shown, best], model.scores[shown, best]
    names = [
        f"{clip(evaluation.folder.name_of(evaluation.images[at]), 60)}: {clip(evaluation.labels[label], 60)}, "
        f"source {before:.2f}, finished model {after:.2f}"
        for at, label, before, after in zip(shown.tolist(), best.tolist(), x, y, strict=True)
    ]
    difference, at, label = largest
    text = (
        "Each point is an image, with the score of the source's best label in both models. On the diagonal, the score "
        f"is unchanged. The largest difference between two scores is {difference:.2f}, for "
        f"{clip(evaluation.labels[label], 60)} in {clip(evaluation.folder.name_of(evaluation.images[at]), 60)}."
    )
    if evaluation.fitted is not None and evaluation.fitted.temperature is not None:
        text += f" Both are at the temperature {evaluation.fitted.temperature:g}."
    if len(shown) < len(every):
        text += f" An even sample of {len(shown)} of the {len(every)} images is shown."
    keys = element(
        "p",
        element("span", "same answer", class_="key same"),
        element("span", "different answer", class_="key changed"),
    )
    chart = scatter_chart(x, y, best != model.best[shown], names)
    return section("Scores before and after", element("p", text), keys, chart)


def _changed(evaluation: Evaluation) -> Element | None:
    if evaluation.source is None:
        return None
    changed, images = evaluation.changed, counted(len(evaluation.images), "image")
    if not changed:
        return section("Images with a different answer", element("p", f"None of {images}."))
    text = f"{len(changed)} of {images}, highest score of the source first."
    if len(changed) > _MOST_THUMBNAILS:
        text += f" Only the first {_MOST_THUMBNAILS} are shown."
    cards = [_card(evaluation, number) for number in changed[:_MOST_THUMBNAILS]]
    return section("Images with a different answer", element("p", text), element("div", *cards, class_="cards"))


def _card(evaluation: Evaluation, number: int) -> Element:
    name, true = evaluation.folder.name_of(evaluation.images[number]), int(evaluation.truth[number])
    rows = [element("dt", "True"), element("dd", clip(evaluation.labels[true], 32))] if evaluation.labeled else []
    for role, answers in zip(("Source", "Model"), evaluation.answers, strict=True):
        best = int(answers.best[number])
        mark = ("✓\N{NO-BREAK SPACE}" if best == true else "✗\N{NO-BREAK SPACE}") if evaluation.labeled else ""
        score = element("b", f"{answers.scores[number, best]:.2f}")
        rows += [element("dt", role), element("dd", mark, clip(evaluation.labels[best], 32), " ", score)]
    caption = element("figcaption", element("p", clip(name, 60), title=name), element("dl", *rows))
    return element("figure", thumbnail(evaluation.images[number], name), caption)


def _left_out(evaluation: Evaluation) -> Element | None:
    if not evaluation.left_out:
        return None
    text = f"{counted(len(evaluation.left_out), 'image')} could not be read and are not counted."
    if len(evaluation.left_out) > _MOST_LEFT_OUT:
        text += f" Only the first {_MOST_LEFT_OUT} are shown."
    reasons = (element("li", reason) for reason in evaluation.left_out[:_MOST_LEFT_OUT])
    return section("Skipped images", element("p", text), element("ul", *reasons))
