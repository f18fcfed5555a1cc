"""A thousand damaged model files and three hundred hostile ones are dropped under load, and nobody notices."""

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
from faults.mutant_run import Original, Siege
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
    from faults.mutant_run import Attack
    from faults.scale import Scale

pytestmark = [pytest.mark.assets, pytest.mark.timeout(3600)]

_GOOD = Original(model_file(1))  # which nobody touches
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
_AT_ONCE = 20  # files whose patience runs out at the same time


@pytest.fixture
def targets(assets: Path) -> dict[str, Original]:
    """The demo's model, and two published ones of other sizes, types and makers."""

    def published(folder: str) -> Original:
        (path,) = (assets / "models" / folder).glob("*.tflite")
        return Original(path.read_bytes(), tuple(path.with_name("labels.txt").read_text().splitlines()))

    return {
        "digits": Original(DIGITS.read_bytes()),
        "mobilenet": published("mobilenet_v1_025_128_uint8"),
        "vww": published("mlperf_vww_96_int8"),
    }


def test_damaged_and_foreign_files_harm_nobody(
    tmp_path: Path, assets: Path, targets: dict[str, Original], figures: Figures, scale: Scale
) -> None:
    known = {target.sha256 for target in targets.values()}
    foreign = [each for each in foreign_files(assets, DIGITS.parent, random.Random(1)) if each.sha256 not in known]
    mutants = list(zip(itertools.cycle(targets), foreign[:: scale(short=10, full=1)], strict=False))
    mutants += _of_each(targets, byte_mutants, scale(short=20, full=1000) - len(mutants))
    _besiege(f"{len(mutants)} byte mutants", mutants, tmp_path, targets, figures)


def test_hostile_files_harm_nobody(
    tmp_path: Path, targets: dict[str, Original], figures: Figures, scale: Scale
) -> None:
    mutants = _of_each(targets, structural_mutants, scale(short=16, full=300))
    _besiege(f"{len(mutants)} structural mutants", mutants, tmp_path, targets, figures)


@pytest.mark.minisign
def test_where_signatures_are_required_no_mutant_is_accepted(
    tmp_path: Path, targets: dict[str, Original], figures: Figures, scale: Scale
) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    subprocess.run(["minisign", "-G", "-W", "-p", keys / "ours.pub", "-s", tmp_path / "ours.key"], check=True)
    signed = {name: _signed(target, tmp_path) for name, target in {"good": _GOOD, **targets}.items()}
    mutants = _of_each(targets, byte_mutants, scale(short=20, full=200))
    with Siege(tmp_path, signed, signatures="required", trusted_keys=str(keys)) as siege:
        for first in range(0, len(mutants), _AT_ONCE):
            siege.attack_at_once(mutants[first : first + _AT_ONCE])
        accepted = [attack for attack in siege.attacks if attack.verdict.outcome != "refused"]
        figures(f"{len(mutants)} byte mutants with signatures required: accepted", "0", f"{len(accepted)}")
        _check(siege)
    assert accepted == []
    assert all("does not match its signature" in attack.verdict.reason for attack in siege.attacks)


def test_golden_samples_find_what_changes_answers(
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
    _besiege(f"{len(mutants)} byte mutants with {_GOLDEN} golden samples", mutants, tmp_path, golden, figures)


def _with_other_weights(model: bytes, chance: random.Random) -> Iterator[Mutant]:
    """Damaged before the golden samples: these have checksums of their own, and would be found out too easily."""
    with zipfile.ZipFile(io.BytesIO(model)) as archive:
        start = min(file.header_offset for file in archive.infolist())
    for mutant in byte_mutants(model[:start], chance):
        if len(mutant.content) == start:
            yield Mutant(mutant.kind, mutant.content + model[start:])


def _with_golden(
    model: bytes, labels: Sequence[str], images: Sequence[npt.NDArray[np.uint8]], color: Literal["rgb", "gray"]
) -> Original:
    """As edge-convert packs them; each image stands for what the model says of it."""
    pack = functools.partial(
        pack_metadata, model, labels=labels, mean=[0.0], std=[255.0], color=color, name="golden", version="1"
    )
    file = read_model_file(pack())
    classifier = TFLiteClassifier(file, file.settings, threads=1)
    said = [classifier.scores(Image(image, "bgr"))[0].best(1)[0].label for image in images]
    files = {f"golden/{number:04}.png": cv2.imencode(".png", image)[1].tobytes() for number, image in enumerate(images)}
    golden = Golden(tolerance=0, files=files, labels=tuple(said), notes=())
    return Original(pack(additions={"golden": golden.to_json()}, files=golden.files))


def _frames_of_the_demo() -> list[npt.NDArray[np.uint8]]:
    """Evenly over the video, and so over the digits."""
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
    """As many of each model, with its name."""
    mutants = {name: mutate(target.content, random.Random(name)) for name, target in targets.items()}
    return [(name, next(mutants[name])) for name in itertools.islice(itertools.cycle(targets), count)]


def _besiege(
    what: str, mutants: list[tuple[str, Mutant]], folder: Path, targets: dict[str, Original], figures: Figures
) -> None:
    random.Random(0).shuffle(mutants)
    with Siege(folder, {"good": _GOOD, **targets}) as siege:
        siege.attack(mutants)
        _tell(what, siege, figures)
        _check(siege)


def _tell(what: str, siege: Siege, figures: Figures) -> None:
    attacks, load = siege.attacks, siege.load
    deaths = 0 if siege.agent.is_running() else 1
    came = f"{deaths}, {len(siege.mixed_up)}, {len(siege.failures)} of {load.total}"
    figures(f"{what}: deaths of the agent, answers of a wrong version, failed requests", "0, 0, 0", came)
    figures(f"{what}: accepted", "", _shares(attacks, lambda attack: attack.verdict.outcome == "accepted"))
    causes = ", ".join(f"{count} {cause}" for cause, count in siege.rollbacks().most_common()) or "none"
    own = f"{len(siege.own_failures)} requests failed, {len(siege.unsteady)} gave various answers to one picture"
    figures(f"{what}: of those accepted", "", f"withdrawn: {causes}; {own}")
    before_mb, after_mb = siege.resident_bytes_before / 1e6, siege.resident_bytes() / 1e6
    figures(f"{what}: resident memory before and after, MB", "", f"{before_mb:.0f}, {after_mb:.0f}")
    crashed = _shares(attacks, lambda attack: "The runtime crashes" in attack.verdict.reason)
    figures(f"{what}: crashes of the trial's process", "", crashed)
    for with_checksum, how in ((True, "with a checksum"), (False, "without")):
        took_s = sorted(attack.verdict.took_s for attack in attacks if attack.with_checksum is with_checksum)
        median_s, p95_s = statistics.median(took_s), took_s[-1 - len(took_s) // 20]
        figures(f"{what}: seconds to the verdict, {how}, median and p95", "", f"{median_s:.2f}, {p95_s:.2f}")


def _shares(attacks: Sequence[Attack], counts: Callable[[Attack], bool]) -> str:
    """The number in all, and of each kind of mutant that has any."""
    kinds = Counter(attack.mutant.kind for attack in attacks)
    counted = Counter(attack.mutant.kind for attack in attacks if counts(attack))
    of_each = ", ".join(f"{kind} {number} of {kinds[kind]}" for kind, number in counted.most_common())
    return f"{counted.total()}" + (f" ({of_each})" if of_each else "")


def _check(siege: Siege) -> None:
    siege.load.wait_for_more(10, "good")
    assert siege.agent.is_running()
    assert siege.failures == []
    assert siege.mixed_up == []
    assert not siege.unsteady & {original.sha256 for original in siege.originals.values()}
    assert siege.lift() == []
    assert siege.agent.is_running()
