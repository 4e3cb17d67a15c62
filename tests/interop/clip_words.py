"""A small vocabulary in the form of CLIP's file; no published one is part of the tests."""

from __future__ import annotations

import gzip
from pathlib import Path

WORDS = ["deep", "sleep", "the", "arousal", "wake", "central", "eeg", "seconds", "'s"]


def small_bpe(path: Path, words=WORDS) -> Path:
    """Writes merges that make every word one piece, left to right; returns `path`."""
    merges = []
    for word in words:
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            if tuple(parts[:2]) not in merges:
                merges.append(tuple(parts[:2]))
            parts[:2] = ["".join(parts[:2])]
    text = "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges)
    path.write_bytes(gzip.compress(text.encode(), mtime=0))
    return path
