"""Finds phrases that are not plain English, and documents with lines that are too wide; `make lint` runs it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

_REPOSITORY = Path(__file__).parents[1]
_WIDEST = 100

# Each pattern, and what to write instead. "No longer" is standard English.
_BANNED = {
    r"\bis no (?!longer\b)": "is not a",
    r"\bby (itself|themselves)\b": "automatically; alone",
    r"\banew\b": "again",
    r"\bamiss\b": "wrong",
    r"\bmend(s|ed|ing)?\b": "fix, repair",
    r"\bfor ever\b": "indefinitely",
    r"\bat present\b": "currently",
    r"\bnobody\b": "no client, no one; or name the subject",
    r"\bwhoever\b": "the person who, each client that",
    r"\bjust now\b": "name the moment",
    r"\bat hand\b": "available",
    r"\bone a (line|channel)\b": "one per",
    r"\ba folder a class\b": "one folder per class",
    r"\btold\b": "reported, announced, said",
}

# A file and a part of the line that may have the phrase, and why.
_EXCEPTIONS = {
    ("tests/plain_english.py", ""): "lists the phrases",
}

_NOT_TEXT = {".png", ".jpg", ".mp4", ".tflite"}


def _files() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=_REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
    )
    files = [name for name in listed.stdout.splitlines() if (_REPOSITORY / name).is_file()]
    return [name for name in files if Path(name).suffix not in _NOT_TEXT and not name.startswith("locks/")]


def _banned_phrases(name: str, text: str) -> list[str]:
    lines = text.splitlines()
    faults = []
    for pattern, instead in _BANNED.items():
        for found in re.finditer(pattern.replace(" ", r"[\s#]+"), text, re.IGNORECASE):  # also across a line break
            number = text.count("\n", 0, found.start()) + 1
            if not any(name == file and part in lines[number - 1] for file, part in _EXCEPTIONS):
                faults.append(f"{name}:{number}: {' '.join(found[0].split())!r}: write instead: {instead}")
    return faults


def _wide_lines(name: str, text: str) -> list[str]:
    """Tables, code blocks and the addresses of links may be wider."""
    faults = []
    in_code = False
    for number, line in enumerate(text.splitlines(), start=1):
        in_code ^= line.lstrip().startswith("```")
        width = len(re.sub(r"\]\([^)]*\)|<https?:[^>]*>", "]", line))
        if not in_code and not line.lstrip().startswith(("|", "```")) and width > _WIDEST:
            faults.append(f"{name}:{number}: {width} columns wide: wrap it at {_WIDEST}")
    return faults


def _faults(name: str) -> list[str]:
    text = (_REPOSITORY / name).read_text(errors="replace")
    return _banned_phrases(name, text) + (_wide_lines(name, text) if name.endswith(".md") else [])


if __name__ == "__main__":
    faults = [fault for name in _files() for fault in _faults(name)]
    print("\n".join(faults), file=sys.stderr)
    sys.exit(1 if faults else 0)
