"""Drops 1,000 damaged and 300 malicious model files under load; no other model may be affected."""

from __future__ import annotations

import functools
import io
import itertools
import random
import statistics
import subprocess
import zipfile
from collections import Counter
from typing import TYPE_CHECKING, Literal

import cv2
import pytest
from agents.running_agent import DIGITS, VIDEO
from end_to_end.material import LABELS as DIGIT_LABELS, model_file
from faults.mutant_run import MutantRun, Original
from faults.mutants import Mutant, byte_mutants, foreign_files
from faults.structural_mutants import structural_mutants

from agent.image import Image
from agent.model_file.metadata import read_model_file
from agent.runtimes.tflite import TFLiteClassifier
from converter.packing.golden import Golden
from converter.packing.metadata import pack_metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt
    from faults.figures import Figures
    from faults.mutant_run import DroppedMutant
    from faults.scale import Scale

pytestmark = [pytest.mark.first, pytest.mark.assets, pytest.mark.timeout(3600)]

_GOOD = Original(model_file(1))  # gets no mutants
_PHOTOS = (
    "bird.bmp",
    "burger.jpg",
    "cat.bmp",
    "dragonfly.bmp",
    "grace_hopper.bmp",
    "hot_dog.jpg",
    "parrot.jpg",
    "sunflower.bmp",
)
_GOLDEN = 2 * len(_PHOTOS)
_AT_ONCE = 20  # files that wait for their remaining bytes at the same time


@pytest.fixture
def targets(assets: Path) -> dict[str, Original]:
    """The demo's model, and two published ones with other sizes, types and authors."""

    def published(folder: str) -> Original:
        (path,) = (assets / "models" / folder).glob("*.tflite")
        return Original(path.read_bytes(), tuple(path.with_name("labels.txt").read_text().splitlines()))

    return {
        "digits": Original(DIGITS.read_bytes()),
        "mobilenet": published("mobilenet_v1_025_128_uint8"),
        "vww": published("mlperf_vww_96_int8"),
    }


def test_damaged_and_foreign_files_affect_no_other_model(
    tmp_path: Path, assets: Path, targets: dict[str, Original], figures: Figures, scale: Scale
) -> None:
    known = {target.sha256 for target in targets.values()}
    foreign = [each for each in foreign_files(assets, DIGITS.parent, random.Random(1)) if each.sha256 not in known]
    mutants = list(zip(itertools.cycle(targets), foreign[:: scale(short=10, full=1)], strict=False))
    mutants += _of_each(targets, byte_mutants, scale(short=20, full=1000) - len(mutants))
    _run(f"{len(mutants)} byte mutants", mutants, tmp_path, targets, figures)


def test_malicious_files_affect_no_other_model(
    tmp_path: Path, targets: dict[str, Original], figures: Figures, scale: Scale
) -> None:
    mutants = _of_each(targets, structural_mutants, scale(short=16, full=300))
    _run(f"{len(mutants)} structural mutants", mutants, tmp_path, targets, figures)


@pytest.mark.minisign
def test_no_mutant_is_accepted_if_signatures_are_required(
    tmp_path: Path, targets: dict[str, Original], figures: Figures, scale: Scale
) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    subprocess.run(["minisign", "-G", "-W", "-p", keys / "ours.pub", "-s", tmp_path / "ours.key"], check=True)
    signed = {name: _signed(target, tmp_path) for name, target in {"good": _GOOD, **targets}.items()}
    mutants = _of_each(targets, byte_mutants, scale(short=20, full=200))
    with MutantRun(tmp_path, signed, signatures="required", trusted_keys=str(keys)) as run:
        for first in range(0, len(mutants), _AT_ONCE):
            run.drop_together(mutants[first : first + _AT_ONCE])
        accepted = [each for each in run.dropped if each.verdict.outcome != "refused"]
        figures(f"{len(mutants)} byte mutants with signatures required: accepted", "0", f"{len(accepted)}")
        _check(run)
    assert accepted == []
    assert all("does not match its signature" in each.verdict.reason for each in run.dropped)


def test_golden_samples_detect_mutants_that_change_answers(
    tmp_path: Path, assets: Path, targets: dict[str, Original], figures: Figures, scale: Scale
) -> None:
    photos = [cv2.resize(cv2.imread(str(assets / "photos" / name)), (256, 256)) for name in _PHOTOS]
    photos += [cv2.flip(photo, 1) for photo in photos]
    mobilenet = targets["mobilenet"]
    golden = {
        "digits": _with_golden(targets["digits"].content, DIGIT_LABELS, _frames_of_the_demo(), "gray"),
        "mobilenet": _with_golden(mobilenet.content, mobilenet.labels, photos, "rgb"),
    }
    mutants = _of_each(golden, _with_other_weights, scale(short=6, full=100))
    _run(f"{len(mutants)} byte mutants with {_GOLDEN} golden samples", mutants, tmp_path, golden, figures)


def _with_other_weights(model: bytes, chance: random.Random) -> Iterator[Mutant]:
    """Damages only the part before the golden samples, which have checksums and would be detected too easily."""
    with zipfile.ZipFile(io.BytesIO(model)) as archive:
        start = min(file.header_offset for file in archive.infolist())
    for mutant in byte_mutants(model[:start], chance):
        if len(mutant.content) == start:
            yield Mutant(mutant.kind, mutant.content + model[start:])


def _with_golden(
    model: bytes, labels: Sequence[str], images: Sequence[npt.NDArray[np.uint8]], color: Literal["rgb", "gray"]
) -> Original:
    """Packs golden samples as edge-convert does; the expected label of each image is the model's own."""
    pack = functools.partial(
        pack_metadata, model, labels=labels, mean=[0.0], std=[255.0], color=color, name="golden", version="1"
    )
    file = read_model_file(pack())
    classifier = TFLiteClassifier(file, file.settings, threads=1)
    labels_of = [classifier.scores(Image(image, "bgr"))[0].best(1)[0].label for image in images]
    files = {f"golden/{number:04}.png": cv2.imencode(".png", image)[1].tobytes() for number, image in enumerate(images)}
    golden = Golden(tolerance=0, files=files, labels=tuple(labels_of), notes=())
    return Original(pack(additions={"golden": golden.to_json()}, files=golden.files))


def _frames_of_the_demo() -> list[npt.NDArray[np.uint8]]:
    """Frames spread evenly over the video and therefore over the digits."""
    capture = cv2.VideoCapture(str(VIDEO))
    frames = []
    while (frame := capture.read())[0]:
        frames.append(frame[1])
    capture.release()
    return frames[:: len(frames) // _GOLDEN][:_GOLDEN]


def _signed(original: Original, folder: Path) -> Original:
    path = folder / "to_sign"
    path.write_bytes(original.content)
    subprocess.run(["minisign", "-S", "-s", folder / "ours.key", "-m", path], check=True, stdout=subprocess.DEVNULL)
    return Original(original.content, original.labels, path.with_name("to_sign.minisig").read_bytes())


def _of_each(
    targets: dict[str, Original], mutate: Callable[[bytes, random.Random], Iterator[Mutant]], count: int
) -> list[tuple[str, Mutant]]:
    """The same number of mutants of each model, with the model's name."""
    mutants = {name: mutate(target.content, random.Random(name)) for name, target in targets.items()}
    return [(name, next(mutants[name])) for name in itertools.islice(itertools.cycle(targets), count)]


def _run(
    what: str, mutants: list[tuple[str, Mutant]], folder: Path, targets: dict[str, Original], figures: Figures
) -> None:
    random.Random(0).shuffle(mutants)
    with MutantRun(folder, {"good": _GOOD, **targets}) as run:
        run.drop_in_turn(mutants)
        _report(what, run, figures)
        _check(run)


def _report(what: str, run: MutantRun, figures: Figures) -> None:
    dropped, load = run.dropped, run.load
    crashes = 0 if run.agent.is_running() else 1
    outcome = f"{crashes}, {len(run.mixed_up)}, {len(run.failures)} of {load.total}"
    figures(f"{what}: agent crashes, answers by a wrong version, failed requests", "0, 0, 0", outcome)
    figures(f"{what}: accepted", "", _shares(dropped, lambda each: each.verdict.outcome == "accepted"))
    causes = ", ".join(f"{count} {cause}" for cause, count in run.rollbacks().most_common()) or "none"
    own = f"{len(run.own_failures)} failed requests, {len(run.unsteady)} with varying answers to one picture"
    figures(f"{what}: outcome of the accepted mutants", "", f"withdrawn: {causes}; {own}")
    before_mb, after_mb = run.resident_bytes_before / 1e6, run.resident_bytes() / 1e6
    figures(f"{what}: resident memory before and after, MB", "", f"{before_mb:.0f}, {after_mb:.0f}")
    crashed = _shares(dropped, lambda each: "The runtime crashed" in each.verdict.reason)
    figures(f"{what}: crashes of the trial process", "", crashed)
    for with_checksum, how in ((True, "with a checksum"), (False, "without a checksum")):
        took_s = sorted(each.verdict.took_s for each in dropped if each.with_checksum is with_checksum)
        median_s, p95_s = statistics.median(took_s), took_s[-1 - len(took_s) // 20]
        figures(f"{what}: seconds to the verdict, {how}, median and p95", "", f"{median_s:.2f}, {p95_s:.2f}")


def _shares(dropped: Sequence[DroppedMutant], counts: Callable[[DroppedMutant], bool]) -> str:
    """The total number, and the number for each kind of mutant that has any."""
    kinds = Counter(each.mutant.kind for each in dropped)
    counted = Counter(each.mutant.kind for each in dropped if counts(each))
    of_each = ", ".join(f"{kind} {number} of {kinds[kind]}" for kind, number in counted.most_common())
    return f"{counted.total()}" + (f" ({of_each})" if of_each else "")


def _check(run: MutantRun) -> None:
    run.load.wait_for_more(10, "good")
    assert run.agent.is_running()
    assert run.failures == []
    assert run.mixed_up == []
    assert not run.unsteady & {original.sha256 for original in run.originals.values()}
    assert run.remove_models() == []
    assert run.agent.is_running()
