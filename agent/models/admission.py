"""Admission: turns a dropped model into a candidate and tries it, or raises the reason for its rejection."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from agent.errors import IncompleteModelError, ModelError, NoLabelsError, NoRoomError
from agent.host.digest import manifest, sha256_of
from agent.host.memory import free_bytes
from agent.host.plain_file import open_plain_file, read_plain_file
from agent.model_file.completeness import check_complete
from agent.model_file.settings import LABELS_TXT, ModelSettings, read_label_file, read_sidecars, sidecar_paths
from agent.models.copying import source_errors
from agent.models.proof import first_difference, stated_files, stated_sha256
from agent.models.tree import tree_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from agent.models.copying import Copy
    from agent.models.folder import Drop
    from agent.models.store import Store
    from agent.models.trial import Trial, TrialReport
    from agent.models.versions import ModelHistory
    from agent.security.minisign import Signed, TrustedKeys

log = logging.getLogger(__name__)

Signatures = Literal["off", "if_present", "required"]

_MAX_PROOF_BYTES = 1 << 13
_MAX_LIST_BYTES = 1 << 19  # of the digests of all files of a SavedModel
_PACK_LABELS = "Pack the labels into the model with edge-convert, or put the settings in the agent's configuration."


@dataclass(frozen=True, slots=True)
class Candidate:
    """A drop that was copied into the store; it is no longer read from the drop folder.

    `proven_whole` if a checksum or a signature matched. `labels_txt` has the labels of a labels.txt next to it, which
    are used if neither the file nor its settings have any, or the reason for which they cannot be used.
    """

    drop: Drop
    sha256: str
    size: int
    sidecar: ModelSettings
    signed: Signed | None
    proven_whole: bool
    labels_txt: ModelSettings | str | None = None

    @property
    def with_labels_txt(self) -> Candidate:
        if not isinstance(self.labels_txt, ModelSettings):
            return self
        return replace(self, sidecar=self.labels_txt.overridden_by(self.sidecar), labels_txt=None)


class Admission:
    """Copies, checks and tries candidates. Each method blocks; call it from a separate thread."""

    def __init__(
        self,
        *,
        store: Store,
        trial: Trial,
        workers: int,
        unloads_first: bool = False,
        settings: dict[str, ModelSettings] | None = None,
        signatures: Signatures = "off",
        keys: TrustedKeys | None = None,
        free_bytes: Callable[[], int] = free_bytes,
    ) -> None:
        """`unloads_first`: the serving version is unloaded if memory is short, so only one version must fit.

        `keys` must be given unless `signatures` is off.
        """
        self._store = store
        self._trial = trial
        self._workers = workers
        self._unloads_first = unloads_first
        self._settings = settings or {}
        self._signatures = signatures
        self._keys = keys
        self._free_bytes = free_bytes
        self._warned: set[str] = set()

    def take(self, drop: Drop, history: ModelHistory) -> Candidate | None:
        """Returns None if the file changed while it was read, because the copy may mix the old and the new file.

        Raises ModelError, IncompleteModelError while a checksum or a signature does not match, StoreError.
        """
        try:
            with source_errors(drop.path):
                sidecar = read_sidecars(drop.path, root=drop.root)
                labels_txt = _labels_txt(drop, may_be_unsigned=self._signatures != "required")
                checked, copy = self._copied_folder(drop) if drop.is_saved_model else self._copied_file(drop)
                signed = self._verified(drop, copy)
            _check_signed_version(signed, history, drop.version)
        except ModelError:
            if drop.has_changed():
                return None
            raise
        if drop.has_changed():
            return None
        return Candidate(
            drop=drop,
            sha256=copy.sha256,
            size=copy.size,
            sidecar=sidecar,
            signed=signed,
            proven_whole=checked or signed is not None,
            labels_txt=labels_txt,
        )

    def try_out(self, candidate: Candidate, *, serving_bytes: int) -> tuple[Candidate, TrialReport]:
        """The candidate with the labels that it needs. Raises ModelError; NoRoomError if not all workers fit in memory.

        `serving_bytes` is the memory of the serving version, which may be unloaded.
        """
        try:
            report = self._trial_of(candidate)
        except NoLabelsError as error:
            if candidate.labels_txt is None:
                raise
            if isinstance(candidate.labels_txt, str):
                raise NoLabelsError(f"{error} {candidate.labels_txt}") from None
            candidate = candidate.with_labels_txt
            report = self._trial_of(candidate)
        needed = candidate.size + report.bytes_each * (1 if report.is_shared else self._workers)
        free = self._free_bytes() + (serving_bytes if self._unloads_first else 0)
        if needed > free:
            remedy = " or lower engine.workers"
            if not self._unloads_first:
                remedy = ", lower engine.workers, or set models.swap: resource to unload the old version first"
            workers = "1 worker" if self._workers == 1 else f"{self._workers} workers"
            raise NoRoomError(
                f"The model needs {needed >> 20} MB for {workers}, but only {free >> 20} MB are free. "
                f"The agent retries in a minute. Drop a smaller model{remedy}."
            )
        return candidate, report

    def _trial_of(self, candidate: Candidate) -> TrialReport:
        if candidate.drop.is_saved_model and candidate.signed is None:
            self._warn(candidate.drop.name)
        overrides = candidate.sidecar.overridden_by(self._settings.get(candidate.drop.name, ModelSettings()))
        return self._trial.run(self._store.path(candidate.sha256), overrides)

    def _warn(self, name: str) -> None:
        """Once per model: the file formats differ in what they can do."""
        if name not in self._warned:
            self._warned.add(name)
            log.warning(
                "Model %s is an unsigned SavedModel, whose graph can read and write files as the agent's user. Drop "
                "only those that you trust, or set models.signatures: required.",
                name,
                extra={"model": name},
            )

    def trust(self) -> tuple[object, ...]:
        """Changes whenever a trusted key is added or removed, so that rejected files can be tried again. Blocks."""
        return self._keys.fingerprint() if self._keys is not None else ()

    def _copied_file(self, drop: Drop) -> tuple[bool, Copy]:
        """Whether a checksum proves that it is complete, and the copy."""
        return self._matches_checksum(drop), self._store.put(drop.path, root=drop.root)

    def _copied_folder(self, drop: Drop) -> tuple[bool, Copy]:
        """Like _copied_file() for a SavedModel; an incomplete one is not copied, because it may be large."""
        tree = tree_of(drop.path, drop.root)
        if tree.fault is not None:
            raise ModelError(tree.fault)
        check_complete(drop.path, root=drop.root)
        checked = _matches_list(drop, tree.files)
        return checked, self._store.put_folder(drop.path, tree, root=drop.root)

    def _matches_checksum(self, drop: Drop) -> bool:
        """Whether a .sha256 next to the file matches; False if there is none.

        Checked before copying: copying a file that is still being written would wear the disk.
        """
        content = _read_proof(drop, ".sha256")
        if content is None:
            return False
        stated = stated_sha256(content.decode(errors="replace"), drop.path.name)
        if stated is None:
            raise ModelError(
                f"{drop.path.name}.sha256 has no line for this file. Create it with sha256sum {drop.path.name}."
            )
        sha256 = _sha256_of(drop.path, drop)
        if stated != sha256:
            raise IncompleteModelError(
                f"The file does not match {drop.path.name}.sha256 (computed {sha256[:12]}..., listed "
                f"{stated[:12]}...). Copy both again; the agent retries automatically."
            )
        return True

    def _verified(self, drop: Drop, copy: Copy) -> Signed | None:
        if self._signatures == "off" or self._keys is None:
            return None
        content = _read_proof(drop, ".minisig")
        if content is not None:
            try:
                signed = self._keys.verify(copy.manifest or self._store.path(copy.sha256), content, name=drop.path.name)
            except ModelError as error:  # one of the two files may not be copied yet
                raise IncompleteModelError(str(error)) from error
        elif self._signatures == "required":
            raise ModelError(
                f"The file is not signed, but models.signatures is `required`. Put {drop.path.name}.minisig next to "
                "it, made by edge-convert sign or minisign -S."
            )
        else:
            return None
        if self._signatures == "required":
            _check_no_sidecars(drop)
        return signed


def _labels_txt(drop: Drop, *, may_be_unsigned: bool) -> ModelSettings | str | None:
    """What it contains, or a sentence that says why it is not used."""
    if drop.loose_labels is None:
        return None
    if not may_be_unsigned:
        return f"{LABELS_TXT} is not used, because models.signatures is `required`. {_PACK_LABELS}"
    if not drop.loose_labels.belongs and drop.version is not None:
        return f"{LABELS_TXT} in the folder above is not used. Put it into the folder of the version."
    if not drop.loose_labels.belongs:
        return (
            f"{LABELS_TXT} is not used, because this folder has several models. If it belongs to this one, rename it "
            f"to {drop.path.with_suffix('.txt').name}."
        )
    try:
        return read_label_file(drop.loose_labels.path, root=drop.root)
    except ModelError as error:  # it does not matter if the model has labels of its own
        return str(error)


def _matches_list(drop: Drop, files: Sequence[str]) -> bool:
    """Whether the .sha256 beside a SavedModel matches: it has the digest of the manifest, or of each file."""
    content = _read_proof(drop, ".sha256")
    if content is None:
        return False
    text, folder = content.decode(errors="replace"), drop.path.name
    found = {name: _sha256_of(drop.path / name, drop) for name in files}
    whole = hashlib.sha256(manifest(found.items())).hexdigest()
    stated = stated_files(text, folder)
    if not stated:
        raise ModelError(f"{folder}.sha256 has no digests. Create it with sha256sum of all files in {folder}.")
    difference = first_difference(stated, found)
    if difference is not None and list(stated.values()) != [whole]:
        raise IncompleteModelError(
            f"The SavedModel does not match {folder}.sha256: {difference}. Copy both again; the agent retries "
            "automatically."
        )
    return True


def _read_proof(drop: Drop, suffix: Literal[".sha256", ".minisig"]) -> bytes | None:
    path = drop.proof(suffix)
    if path is None:
        return None
    most = _MAX_LIST_BYTES if drop.is_saved_model and suffix == ".sha256" else _MAX_PROOF_BYTES
    try:
        return read_plain_file(path, max_bytes=most, root=drop.root)
    except OSError as error:
        raise ModelError(f"{path.name} cannot be read: {error.strerror}. Write it again.") from None


def _sha256_of(path: Path, drop: Drop) -> str:
    with source_errors(path), open_plain_file(path, root=drop.root) as file:
        return sha256_of(file)


def _check_no_sidecars(drop: Drop) -> None:
    for path in sidecar_paths(drop.path):
        if path.is_file():
            raise ModelError(
                f"{path.name} is not covered by the signature, but models.signatures is `required`. Remove it. "
                f"{_PACK_LABELS}"
            )


def _check_signed_version(signed: Signed | None, history: ModelHistory, number: int | None) -> None:
    """A signed version must not be lower than an admitted one: an old file, though signed, may have a known fault.

    In TensorFlow Serving's layout a lower `number` is allowed after a higher one was withdrawn, as a way back.
    """
    if signed is None or history.signed is None:
        return
    if number is not None and any(version.withdrawn and version.number > number for version in history.versions):
        return
    stated = "states no version" if signed.version is None else f"says version {signed.version}"
    if signed.version is None or signed.version < history.signed:
        raise ModelError(
            f"The signature {stated}, but version {history.signed} was already admitted. Sign it with a higher "
            "version, or roll back on the device: edge-agent models rollback."
        )
