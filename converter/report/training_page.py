"""Training page: the report of a training for people who know their photos, but not machine learning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from converter.evaluation.evaluation import percent
from converter.report.charts import bars, clip, confusion_chart, element, thumbnail
from converter.report.curve_chart import curve_chart
from converter.report.document import counted, document, facts_section, section, table, wide, write_page
from converter.report.findings import in_short
from converter.training.assessment import SHARES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from xml.etree.ElementTree import Element

    from converter.conversion import Conversion
    from converter.training.fine_tuning import Candidate
    from converter.training.search import Search
    from converter.training.training import Training

_MOST_CLASSES_CONFUSED = 30
_MOST_CURVES = 6
_MOST_CARDS = 48
_MOST_NAMES = 100
_FEW_NAMES = 5
_CONDITIONS = {
    "backbone": "Backbone",
    "seed": "Seed",
    "tensorflow": "TensorFlow",
    "trained_by": "Trained by",
    "photos_sha256": "SHA-256 of the photos",
    "weights_sha256": "SHA-256 of the weights",
}


def write_training_report(path: Path, training: Training, conversion: Conversion | None) -> None:
    """Write the page to `path` and its figures next to it, with the extension .json. Raises ConverterError."""
    title = f"Training of {training.name}"
    converted = {"conversion": conversion.to_json()} if conversion is not None else {}
    write_page(path, _page(title, training, conversion), {"title": title, **training.to_json(), **converted})


def _page(title: str, training: Training, conversion: Conversion | None) -> Element:
    sections = (
        _in_short(training),
        _found(training),
        _classes(training),
        _confusion(training),
        _curve(training),
        _fine_tuning(training),
        _wrong(training),
        _converted(conversion),
        facts_section(_facts(training)),
    )
    return document(title, training.verdict, [part for part in sections if part is not None])


def _in_short(training: Training) -> Element:
    return section("In short", element("ul", *(element("li", sentence) for sentence in in_short(training))))


def _found(training: Training) -> Element:
    if not training.findings:
        return section("Found before training", element("p", "Nothing unusual: every photo can be read."))
    parts = []
    for finding in training.findings:
        if len(finding.names) <= _FEW_NAMES:
            parts.append(element("p", str(finding)))
        else:
            parts.append(element("p", finding.text))
            shown = [element("li", clip(name, 200)) for name in finding.names[:_MOST_NAMES]]
            more = len(finding.names) - len(shown)
            rest = [element("li", f"and {more} more")] if more else []
            listed = element("summary", f"Show all {len(finding.names)}")
            parts.append(element("details", listed, element("ul", *shown, *rest)))
    return section("Found before training", *parts)


def _classes(training: Training) -> Element:
    figures = training.result.figures
    order = np.argsort(figures.recall, kind="stable")

    def rows() -> Iterator[Sequence[Element | str]]:
        for at in order.tolist():
            label, recall = training.dataset.labels[at], float(figures.recall[at])
            yield (
                element("span", clip(label, 40), title=label),
                bars([("model", recall)]),
                percent(recall),
                str(figures.images[at]),
                percent(float(figures.precision[at])),
            )

    text = (
        "Recognized: of all photos of the class, the share that the model named correctly. Correct when named: of all "
        "photos that the model called by this name, the share that really were of the class. Lowest first."
    )
    head = ["Class", "", "Recognized", "Photos", "Correct when named"]
    return section("How well each class is recognized", element("p", text), table(head, rows(), class_="f1 recalls"))


def _confusion(training: Training) -> Element:
    result, labels = training.result, training.dataset.labels
    wrong = result.figures.images + result.figures.answers - 2 * result.confusion.diagonal()
    shown = sorted(np.argsort(-wrong, kind="stable")[:_MOST_CLASSES_CONFUSED].tolist())
    counts = result.confusion[np.ix_(shown, shown)]
    shares = (counts / np.maximum(result.figures.images[shown, None], 1)).astype(np.float32)
    text = (
        "Each row is a class, each column an answer of the model. Numbers on the diagonal are right answers; every "
        "other number says how often a photo of the row was taken for the class of the column."
    )
    if len(shown) < len(labels):
        text += f" Of {len(labels)} classes, the {len(shown)} with the most wrong answers are shown."
    chart = confusion_chart(counts, shares, [labels[at] for at in shown], rows="true class")
    return section("What is taken for what", element("p", text), wide(chart, "Confusion matrix"))


def _curve(training: Training) -> Element | None:
    assessment = training.assessment
    if assessment is None:
        return None
    gains = assessment.recalls[-1] - assessment.recalls[-2]
    most = np.argsort(-gains, kind="stable")[:_MOST_CURVES]
    lines = [("all classes", assessment.curve)]
    lines += [(training.dataset.labels[at], assessment.recalls[:, at]) for at in most.tolist()]
    text = (
        "The model was also trained with only a part of the photos. If a line still rises at its right end, more "
        "photos of that class will probably help; if it is flat, other photos help more than more of the same: other "
        "light, other backgrounds, other distances. The thick line is the mean of all classes."
    )
    if len(most) < len(training.dataset.labels):
        text += f" The {len(most)} classes that gained most are shown."
    shares = [f"{100 * share:.0f} %" for share in SHARES[:-1]] + ["all photos"]
    return section("Would more photos help?", element("p", text), curve_chart(SHARES, shares, lines))


def _fine_tuning(training: Training) -> Element | None:
    if training.search is None:
        return None
    if training.too_short is not None:
        return section("Fine-tuning", element("p", training.too_short))
    outcome = element("p", _outcome(training.search))
    longest = max(len(tuned.history) for tuned in training.search.tried)
    if longest == 1:
        return section("Fine-tuning", outcome)
    text = (
        "Each line is one variant: how many of the layers were trained, and the learning rate. It shows the share of "
        "the photos held out that is recognized, averaged over the classes, after each round through the photos. "
        "Of each variant, the round with the smallest loss counts, and the thick line is the variant with the smallest "
        "of all. The loss also counts how sure the answers are, so another line may end higher."
    )
    at = [(number + 1) / longest for number in range(longest)]
    names = [str(number + 1) if number + 1 in (1, longest) else "" for number in range(longest)]
    order = sorted(training.search.tried, key=lambda tuned: tuned.loss)
    lines = [(variant(tuned.candidate), tuned.history[:, 2]) for tuned in order]
    return section("Fine-tuning", outcome, element("p", text), curve_chart(at, names, lines))


def variant(candidate: Candidate) -> str:
    return f"{100 * candidate.depth:.0f} %, rate {candidate.rate:g}"


def _outcome(search: Search) -> str:
    tried = f"Upper layers of the network were also trained, in {counted(len(search.tried), 'variant')}."
    if search.best is None:
        return f"{tried} That was not better than training only the last layer, so it is not used."
    used = "The best is used, because it" if len(search.tried) > 1 else "It is used, because it"
    return (
        f"{tried} {used} is better on the photos held out than training only the last layer. Since these photos "
        "decided, expect a little less on others."
    )


def _wrong(training: Training) -> Element:
    result = training.result
    if not len(result.wrong):
        return section("Photos that it gets wrong", element("p", "None."))
    text = (
        f"{len(result.wrong)} of {counted(len(result.truth), 'photo')}, the surest mistakes first. Look for photos in "
        "the wrong folder, and for photos in which even you would hesitate."
    )
    if len(result.wrong) > _MOST_CARDS:
        text += f" Only the first {_MOST_CARDS} are shown."
    cards = [_card(training, int(at)) for at in result.wrong[:_MOST_CARDS]]
    return section("Photos that it gets wrong", element("p", text), element("div", *cards, class_="cards"))


def _card(training: Training, at: int) -> Element:
    result, labels = training.result, training.dataset.labels
    photo, best = training.dataset.photos[int(result.photos[at])], int(result.best[at])
    rows = [
        element("dt", "Folder"),
        element("dd", clip(labels[int(result.truth[at])], 32)),
        element("dt", "Model"),
        element("dd", clip(labels[best], 32), " ", element("b", f"{result.scores[at, best]:.2f}")),
    ]
    caption = element("figcaption", element("p", clip(photo.name, 60), title=photo.name), element("dl", *rows))
    return element("figure", thumbnail(photo.found, photo.name), caption)


def _converted(conversion: Conversion | None) -> Element | None:
    if conversion is None:
        return None
    parts = []
    for model in conversion.models:
        verdict = model.evaluation.verdict if model.evaluation is not None else ""
        outcome = f"{model.path.name} was written." if model.refusal is None else f"Not written: {model.refusal}"
        parts.append(element("p", f"{outcome} {verdict}" if model.refusal is None else outcome))
        if model.refusal is None and model.evaluation is not None and model.evaluation.score_sentences:
            parts.append(element("p", " ".join(model.evaluation.score_sentences)))
    return section("The file for devices", *parts)


def _facts(training: Training) -> dict[str, str]:
    own = training.exported
    return {
        "Folder": str(training.dataset.root),
        "Photos": f"{len(training.dataset.photos)} in {len(training.dataset.labels)} classes",
        "Trained on": f"{len(training.partition.train)} photos",
        "Never trained on": f"{len(own.truth)} photos, of which the model recognizes {percent(own.accuracy)}",
        "Accuracy": percent(training.result.accuracy),
        "Balanced accuracy": f"{percent(training.result.balanced_accuracy)} (the mean of the classes)",
        "Macro F1": f"{training.result.figures.macro_f1:.3f}",
        **{words: str(training.provenance[key]) for key, words in _CONDITIONS.items()},
    }
