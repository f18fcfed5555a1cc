from __future__ import annotations

import hashlib
import io
import os
import zipfile
from typing import TYPE_CHECKING

import pytest
from agents.managed import InProcessTrial
from agents.models_on_disk import BARE_DIGITS, DIGITS, digits, photo_of_3, write_whole
from agents.tiny_models import percent_model

from agent.errors import IncompleteModelError, ModelError
from agent.host.memory import free_bytes
from agent.model_file.settings import ModelSettings
from agent.models.admission import Admission, Candidate
from agent.models.folder import ModelFolder
from agent.models.loader import LoadedModel, Loader
from agent.models.store import Store
from agent.models.versions import ModelHistory, Version
from agent.security.minisign import Signed, TrustedKeys
from converter.packing.metadata import pack_metadata

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent.model_file.settings import Score
    from agent.models.admission import Signatures
    from agent.models.folder import Drop
    from agent.models.trial import TrialReport

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NEVER_BEFORE = ModelHistory()


class Desk:
    """A drop folder, a store, and an admission that connects them."""

    def __init__(
        self,
        folder: Path,
        *,
        settings: dict[str, ModelSettings] | None = None,
        max_bytes: int = 1 << 24,
        signatures: Signatures = "off",
        keys: Keys | None = None,
        workers: int = 1,
        unloads_first: bool = False,
        trial: InProcessTrial | None = None,
        memory: Callable[[], int] = free_bytes,
    ) -> None:
        self.folder = folder / "models"
        self.folder.mkdir(exist_ok=True)
        self.store = Store(folder / "copies", max_bytes=max_bytes)
        self.loader = Loader(store=self.store, workers=workers, threads=1, settings=settings)
        self.admission = Admission(
            store=self.store,
            trial=trial or InProcessTrial(),
            workers=workers,
            unloads_first=unloads_first,
            settings=settings,
            signatures=signatures,
            keys=keys,
            free_bytes=memory,
        )

    def drop(self, content: bytes, **others: str) -> Drop:
        """Drops m.tflite; `others` are the files next to it, by extension."""
        write_whole(self.folder / "m.tflite", content)
        for ending, text in others.items():
            name = "m.tflite" if ending in ("sha256", "minisig") else "m"
            (self.folder / f"{name}.{ending}").write_text(text)
        (drop,) = ModelFolder(self.folder).list()["m"]
        return drop

    def take(self, content: bytes, **others: str) -> Candidate:
        return self.take_after(NEVER_BEFORE, content, **others)

    def take_after(self, history: ModelHistory, content: bytes, **others: str) -> Candidate:
        candidate = self.admission.take(self.drop(content, **others), history)
        assert candidate is not None
        return candidate

    def admit(self, content: bytes, **others: str) -> TrialReport:
        return self.admission.try_out(self.take(content, **others), serving_bytes=0)[1]

    def load(self, content: bytes, **others: str) -> LoadedModel:
        candidate = self.take(content, **others)
        self.admission.try_out(candidate, serving_bytes=0)
        return self.loader.load("m", version(candidate.sha256, candidate.sidecar))


class Keys(TrustedKeys):
    """Accepts the text `good` as a signature, optionally followed by a version."""

    def __init__(self) -> None:
        """Needs no folder."""

    def verify(self, content: Path | bytes, signature: bytes, *, name: str) -> Signed:
        word, _, number = signature.decode().partition(" ")
        if word != "good" or not (content if isinstance(content, bytes) else content.read_bytes()):
            raise ModelError(f"The signature of {name} is wrong.")
        return Signed(key_id="A" * 16, trusted_comment="", version=int(number) if number else None)


def version(sha256: str, sidecar: ModelSettings) -> Version:
    return Version(1, sha256, sidecar, "m.tflite", (), 0, 0, 1.0)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def label_of(loaded: LoadedModel) -> str:
    scores, _ = loaded.classifiers[0].scores(photo_of_3())
    (category,) = scores.best(1)
    return category.label


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_loaded_model_has_a_classifier_for_each_worker(tmp_path: Path) -> None:
    loaded = Desk(tmp_path, workers=3).load(DIGITS)
    assert len(set(loaded.classifiers)) == 3
    for classifier in loaded.classifiers:
        scores, _ = classifier.scores(photo_of_3())
        (category,) = scores.best(1)
        assert category.label == "3"


def test_candidate_has_its_hash_and_a_copy_in_the_store(desk: Desk) -> None:
    candidate = desk.take(DIGITS)
    assert (candidate.sha256, candidate.size) == (sha256(DIGITS), len(DIGITS))
    assert desk.store.read(candidate.sha256) == DIGITS
    assert not candidate.proven_whole


def test_sidecars_override_metadata_and_configuration_overrides_both(tmp_path: Path) -> None:
    content, desk = digits(labels=[f"packed {n}" for n in range(10)]), Desk(tmp_path)
    assert label_of(desk.load(content)) == "packed 3"
    assert label_of(desk.load(content, txt="\n".join(WORDS))) == "three"
    assert label_of(desk.load(content, yaml="labels: [a, b, c, d, e, f, g, h, i, j]")) == "d"
    configured = Desk(tmp_path, settings={"m": ModelSettings(labels=tuple("ABCDEFGHIJ"))})
    loaded = configured.load(content)
    assert label_of(loaded) == "D"
    assert loaded.settings.mean == (0.0,)  # kept, because no later place sets it


def test_settings_of_another_model_are_not_used(tmp_path: Path) -> None:
    assert label_of(Desk(tmp_path, settings={"n": ModelSettings(labels=WORDS)}).load(DIGITS)) == "3"


def test_numbered_label_file_labels_a_model_without_metadata(desk: Desk) -> None:
    assert label_of(desk.load(BARE_DIGITS, txt="".join(f"{n} {w}\n" for n, w in enumerate(WORDS)))) == "three"


def test_model_is_refused_when_its_sidecar_is_invalid(desk: Desk) -> None:
    with pytest.raises(ModelError, match=r"m.yaml has the unknown key 'maen'"):
        desk.take(DIGITS, yaml="maen: 127.5")


def test_model_is_refused_when_its_label_file_has_the_wrong_length(desk: Desk) -> None:
    with pytest.raises(ModelError, match="There are 3 labels for 10 outputs"):
        desk.admit(DIGITS, txt="a\nb\nc\n")


@pytest.mark.parametrize("percent", [99.9, 99, 97, 50, 0])
def test_truncated_file_is_refused_before_the_runtime_reads_it(desk: Desk, percent: float) -> None:
    with pytest.raises(IncompleteModelError, match=r"damaged or incomplete|empty"):
        desk.admit(DIGITS[: int(len(DIGITS) * percent / 100)])


@pytest.mark.parametrize("content", [b"<!doctype html>", b"\x89HDF\r\n\x1a\n" + bytes(99)])
def test_file_of_another_format_is_refused(desk: Desk, content: bytes) -> None:
    with pytest.raises(ModelError, match=r"not TFL3|Keras .h5"):
        desk.admit(content)


def test_keras_archive_is_refused_with_a_hint_to_convert_it(desk: Desk) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", bytes(100))
    with pytest.raises(ModelError, match=r"zip archive .*edge-convert convert"):
        desk.admit(stream.getvalue())


@pytest.mark.assets
def test_keras_h5_file_is_refused_with_a_hint_to_convert_it(desk: Desk, assets: Path) -> None:
    with pytest.raises(ModelError, match=r"Keras .h5 file.*edge-convert convert"):
        desk.admit((assets / "h5" / "vww_96.h5").read_bytes())


def test_file_is_admitted_up_to_the_size_limit(tmp_path: Path) -> None:
    assert Desk(tmp_path, max_bytes=len(DIGITS)).admit(DIGITS).invoke_ms > 0
    with pytest.raises(ModelError, match="larger than"):
        Desk(tmp_path, max_bytes=len(DIGITS) - 1).admit(DIGITS)


@pytest.mark.parametrize("other", [digits("2"), b"half a model"])
def test_take_returns_none_when_the_file_changes_meanwhile(desk: Desk, other: bytes) -> None:
    drop = desk.drop(DIGITS)
    write_whole(drop.path, other)
    assert desk.admission.take(drop, NEVER_BEFORE) is None


def test_take_returns_none_when_a_sidecar_changes_meanwhile(desk: Desk) -> None:
    drop = desk.drop(DIGITS)
    (desk.folder / "m.yaml").write_text("maen: 1")
    assert desk.admission.take(drop, NEVER_BEFORE) is None


@pytest.mark.parametrize(
    "line",
    ["{0}  m.tflite", "{0} *m.tflite", "{0}", "{0}  /home/me/m.tflite", "{1}  other.tflite\n{0}  m.tflite", "{2}"],
)
def test_matching_checksum_proves_the_file_complete(desk: Desk, line: str) -> None:
    text = line.format(sha256(DIGITS), "0" * 64, sha256(DIGITS).upper())
    assert desk.take(DIGITS, sha256=text).proven_whole


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        (sha256(b"other"), IncompleteModelError, "does not match m.tflite.sha256 \\(computed"),
        ("", ModelError, "has no line for this file. Create it with sha256sum m.tflite"),
        ("0" * 63, ModelError, "has no line for this file"),
        (f"{'0' * 64}  a.tflite\n{'1' * 64}  b.tflite\n", ModelError, "has no line for this file"),
        ("0" * 10_000, ModelError, "m.tflite.sha256 cannot be read: it has more than 8 kB"),
    ],
)
def test_file_is_refused_when_its_checksum_does_not_match(
    desk: Desk, text: str, kind: type[ModelError], words: str
) -> None:
    with pytest.raises(ModelError, match=words) as refusal:
        desk.take(DIGITS, sha256=text)
    assert type(refusal.value) is kind


def test_signature_is_ignored_when_signatures_are_off(desk: Desk) -> None:
    candidate = desk.take(DIGITS, minisig="bad")
    assert (candidate.proven_whole, candidate.signed) == (False, None)


def test_signature_is_checked_when_there_is_one(tmp_path: Path) -> None:
    desk = Desk(tmp_path, signatures="if_present", keys=Keys())
    assert not desk.take(DIGITS).proven_whole
    candidate = desk.take(DIGITS, minisig="good 4", txt="\n".join(WORDS))
    assert (candidate.proven_whole, candidate.signed and candidate.signed.version) == (True, 4)
    with pytest.raises(IncompleteModelError, match=r"The signature of m.tflite is wrong"):
        desk.take(DIGITS, minisig="bad")


def test_file_is_refused_without_a_signature_when_one_is_required(tmp_path: Path) -> None:
    desk = Desk(tmp_path, signatures="required", keys=Keys())
    with pytest.raises(ModelError, match=r"not signed, but models.signatures is `required`"):
        desk.take(DIGITS)
    assert desk.take(DIGITS, minisig="good").proven_whole
    with pytest.raises(ModelError, match=r"m.txt is not covered by the signature"):
        desk.take(DIGITS, txt="a\nb")


@pytest.mark.parametrize(("signature", "words"), [("good 4", "says version 4"), ("good", "states no version")])
def test_file_is_refused_when_its_signed_version_is_lower(tmp_path: Path, signature: str, words: str) -> None:
    desk, history = Desk(tmp_path, signatures="if_present", keys=Keys()), ModelHistory(signed=5)
    for higher in ("good 5", "good 6"):
        assert desk.take_after(history, DIGITS, minisig=higher).proven_whole
    with pytest.raises(ModelError, match=f"{words}, but version 5 was already admitted"):
        desk.take_after(history, DIGITS, minisig=signature)


@pytest.mark.parametrize("unloads_first", [False, True])
def test_model_is_refused_when_memory_does_not_suffice_for_all_workers(tmp_path: Path, *, unloads_first: bool) -> None:
    free = 201 << 20
    desk = Desk(
        tmp_path,
        workers=2,
        unloads_first=unloads_first,
        trial=InProcessTrial(bytes_each=100 << 20),
        memory=lambda: free,
    )
    candidate = desk.take(DIGITS)
    desk.admission.try_out(candidate, serving_bytes=0)
    free = 200 << 20
    if unloads_first:
        desk.admission.try_out(candidate, serving_bytes=1 << 20)
    else:
        with pytest.raises(
            ModelError, match=r"needs 200 MB for 2 workers, but only 200 MB are free.*models\.swap: resource"
        ):
            desk.admission.try_out(candidate, serving_bytes=1 << 20)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), lambda path: path.mkdir()])
def test_sidecar_is_ignored_when_it_is_not_a_regular_file(desk: Desk, make: Callable[[Path], object]) -> None:
    make(desk.folder / "m.txt")
    make(desk.folder / "m.yaml")
    assert desk.take(DIGITS).sidecar == ModelSettings()


def test_sidecar_is_refused_when_it_is_too_large(desk: Desk) -> None:
    with pytest.raises(ModelError, match=r"m.txt cannot be read: it has more than 1024 kB"):
        desk.take(DIGITS, txt="x" * ((1 << 20) + 1))


def test_loaded_model_is_unaffected_when_its_file_and_copy_are_overwritten(desk: Desk) -> None:
    loaded = desk.load(DIGITS)
    for path in (desk.folder / "m.tflite", desk.store.path(sha256(DIGITS))):
        path.chmod(0o644)
        with path.open("r+b") as file:
            file.truncate(10)
    assert label_of(loaded) == "3"


@pytest.mark.parametrize(
    ("configured", "sidecar", "packed", "expected"),
    [
        ("logits", "probability", "probability", "logits"),
        (None, "logits", "probability", "logits"),
        (None, None, "logits", "logits"),
        (None, None, None, "percent"),
    ],
)
def test_configuration_beats_sidecar_beats_file_beats_values_for_the_scores(
    tmp_path: Path, configured: Score | None, sidecar: str | None, packed: str | None, expected: str
) -> None:
    content = pack_metadata(
        percent_model(),
        labels=["a", "b", "c"],
        mean=[0.0],
        std=[255.0],
        color="rgb",
        name="m",
        version="1",
        additions={"settings": {"score": packed} if packed else {}},
    )
    desk = Desk(tmp_path, settings={"m": ModelSettings(score=configured)})
    loaded = desk.load(content, yaml=f"score: {sidecar or 'null'}")
    assert loaded.classifiers[0].score == expected
    assert (loaded.classifiers[0].seen is None) is (expected != "percent")
