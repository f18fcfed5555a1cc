"""Seeds: writes an outbox as earlier runs of the agent would leave it, without running an agent."""

from __future__ import annotations

import json
import random
import time
from base64 import b85encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.classification import iso_time
from agent.mqtt.outbox.blocks import Entry, Position, encode

if TYPE_CHECKING:
    from pathlib import Path

_BOOT_CHARACTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_SHA256 = "b1da3d7cff9ba0f7a67338ce52a8bbcb2f16121d3c0a012f55b476dfd497efc4"
_CHANCE = random.Random(20)


@dataclass(frozen=True, slots=True)
class Group:
    """Results that were written to the disk together."""

    seqs: range
    content: bytes


@dataclass(frozen=True, slots=True)
class SeededSegment:
    """A file of one run, with its groups one after another."""

    path: Path
    boot: str
    groups: list[Group]

    @property
    def size(self) -> int:
        return sum(len(group.content) for group in self.groups)

    @property
    def seqs(self) -> list[int]:
        return [seq for group in self.groups for seq in group.seqs]


def seed(
    outbox: Path, *, groups: int, per_group: int, boot: str | None = None, first_seq: int = 1, bulk: int = 0
) -> SeededSegment:
    """Adds a file after the existing ones, of a new run unless `boot` is given.

    Each result has about `bulk` additional bytes, which cannot be compressed.
    """
    outbox.mkdir(parents=True, exist_ok=True)
    boot = boot or "01" + "".join(_CHANCE.choices(_BOOT_CHARACTERS, k=24))
    numbers = [int(path.name[:12]) for path in outbox.iterdir() if path.name[:12].isdigit()]
    path = outbox / f"{max(numbers, default=0) + 1:012d}-{boot}.segment"
    starts = range(first_seq, first_seq + groups * per_group, per_group)
    made = [_group(boot, range(start, start + per_group), bulk) for start in starts]
    path.write_bytes(b"".join(group.content for group in made))
    return SeededSegment(path, boot, made)


def _group(boot: str, seqs: range, bulk: int) -> Group:
    topic = "edge-agent/test/cameras/camera0/result"
    entries = [Entry(boot, seq, topic, json.dumps(_result(boot, seq, bulk)).encode()) for seq in seqs]
    return Group(seqs, encode(entries, Position(0, 0)))


def _result(boot: str, seq: int, bulk: int) -> dict[str, Any]:
    """Times and scores vary, as in real results."""
    total_ms = round(_CHANCE.uniform(0.2, 0.4), 3)
    return {
        "id": "01" + "".join(_CHANCE.choices(_BOOT_CHARACTERS, k=24)),
        "seq": seq,
        "boot": boot,
        "device": "test",
        "source": "camera0",
        "captured_at": iso_time(time.time_ns()),
        "model": {
            "name": "digits",
            "version": "1",
            "sha256": _SHA256,
        },
        "categories": [{"index": 3, "label": "3", "score": round(_CHANCE.random(), 4)}],
        "bulk": b85encode(_CHANCE.randbytes(bulk * 4 // 5)).decode(),
        "timing_ms": {"decode": 0.0, "preprocess": 0.148, "invoke": 0.072, "total": total_ms},
    }
