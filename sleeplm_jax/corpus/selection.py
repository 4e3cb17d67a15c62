"""Nights chosen on purpose: who chose them is written into the corpus, and limits what it can show.

A cohort filtered by how well some automatic stager agrees with the scorers is a cohort on which
that stager does well. So a corpus says how its nights were selected, and refuses to be the ground
on which the selecting stager is compared with anything. A selection file is JSON:

    {"selected_by": "YASA", "why": "kappa over 0.6 against the scoring", "recordings": ["n1", ...]}

`recordings` are file stems (or night names where stems repeat). Nothing in this package drops a
night by itself: findings are flags.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from sleeplm_jax.corpus.discovery import Found
from sleeplm_jax.errors import CorpusError


@dataclass(frozen=True)
class Selection:
    """What a selection file says."""

    selected_by: str
    why: str
    recordings: frozenset[str]

    def about(self, given: int, kept: int) -> dict:
        """The manifest's note of it."""
        return {"selected_by": self.selected_by, "why": self.why, "given": given, "kept": kept}


def read_selection(path: Path | str) -> Selection:
    """Reads a selection file. Raises CorpusError where it is absent, no JSON or incomplete."""
    form = 'write {"selected_by": "who or what", "why": "rule", "recordings": ["stem", ...]}'
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CorpusError(path, f"cannot be read ({type(error).__name__})", form) from error
    if not isinstance(found, dict):
        raise CorpusError(path, "is no JSON object", form)
    for name in ("selected_by", "why"):
        if not isinstance(found.get(name), str) or not plain(found[name]):
            raise CorpusError(path, f"does not say {name!r} in words", form)
    names = found.get("recordings")
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise CorpusError(path, "lists no recordings", form)
    return Selection(found["selected_by"], found["why"], frozenset(names))


def select(found: list[Found], path: Path | str) -> tuple[list[Found], dict]:
    """The recordings that the selection file names, and the manifest's note of it.

    Raises CorpusError where it names one that is not there: a misspelt night would be left out.
    """
    selection = read_selection(path)
    kept = [f for f in found if {f.night, Path(f.path).stem} & selection.recordings]
    known = {name for f in found for name in (f.night, Path(f.path).stem)}
    absent = sorted(selection.recordings - known)
    if absent:
        raise CorpusError(
            path, f"names recordings that are not there: {', '.join(absent[:5])}",
            "give file stems of the recordings",
        )
    return kept, selection.about(len(found), len(kept))


def plain(name: str) -> str:
    """Letters and digits of a name, folded, without a trailing version: "YASA 0.6.5" is "yasa"."""
    return re.sub(r"[^a-z0-9]", "", re.sub(r"[\s_-]*v?\d+(\.\d+)*\s*$", "", name.casefold()))


def refuse_baseline(manifest: dict, stager: str, where: Path | str) -> None:
    """CorpusError where the nights of a corpus were selected by `stager`, a stager's name."""
    selection = manifest.get("selection")
    if selection is None:
        return
    chooser, wanted = plain(selection["selected_by"]), plain(stager)
    if wanted and (wanted in chooser or chooser in wanted):
        raise CorpusError(
            where,
            f"its nights were selected by {selection['selected_by']!r} ({selection['why']}): "
            f"{stager} cannot be a baseline on them",
            "compare on a corpus that was not selected by it",
        )
