"""How far the montages reach: in what share of recordings each channel resolves, unknown labels.

From recordings (headers only; two signals with one label are compared) or from a list of labels:

    {"SHHS": {"n_recordings": 8444, "names": {"SaO2": 8444, ...},
              "top_montages": [{"n": 2644, "channels": ["SaO2", ...]}, ...]}, ...}

`names` counts the recordings that hold a label, `top_montages` the recordings that hold exactly
those. Where the montages do not add up to all recordings, the rest is bounded from the counts.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings.channels import CHANNELS
from sleeplm_jax.recordings.montage import Montage, cohort_montages, load_montage
from sleeplm_jax.recordings.montage_match import (
    candidates,
    choose_montage,
    numbered_labels,
    same_label,
    unresolved_reasons,
)
from sleeplm_jax.recordings.montage_row import Candidate
from sleeplm_jax.recordings.opening import SUFFIXES, open_recording
from sleeplm_jax.recordings.recording import Recording, SignalInfo


@dataclass
class Coverage:
    """What a cohort's montages find in its recordings; counts of recordings.

    `resolved[channel]`: sources and how many recordings resolve from each. `least` and `most` bound
    the resolved ones over all `recordings`, of which `judged` were seen label by label. `unknown`
    and `others` count labels that no row names: not known at all, and those in `others`.
    `unverified` are those of `montages` that rest on less than the cohort's own documentation or
    files: what is counted with them is their word alone.
    """

    cohort: str
    montages: set[str] = field(default_factory=set)
    unverified: set[str] = field(default_factory=set)
    recordings: int = 0
    judged: int = 0
    resolved: dict[str, Counter] = field(default_factory=lambda: {c: Counter() for c in CHANNELS})
    reasons: dict[str, Counter] = field(default_factory=lambda: {c: Counter() for c in CHANNELS})
    least: dict[str, int] = field(default_factory=dict)
    most: dict[str, int] = field(default_factory=dict)
    unknown: Counter = field(default_factory=Counter)
    others: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict:
        """JSON-able: shares are of `recordings`, [least, most]."""
        total = max(self.recordings, 1)
        return {
            "cohort": self.cohort,
            "montages": sorted(self.montages),
            "unverified_montages": sorted(self.unverified),
            "recordings": self.recordings,
            "judged": self.judged,
            "channels": {
                name: {
                    "share": [self.least[name] / total, self.most[name] / total],
                    "sources": dict(self.resolved[name].most_common()),
                    "reasons": dict(self.reasons[name].most_common()),
                }
                for name in CHANNELS
            },
            "unknown_labels": dict(self.unknown.most_common()),
            "other_labels": self.others,
        }


def named_terms(montages: Iterable[Montage]) -> dict[str, set[str]]:
    """Label in its compared form -> the channels into whose rows it enters."""
    found: dict[str, set[str]] = {}
    for montage in montages:
        for channel, rows in montage.channels.items():
            for row in rows:
                for label, _ in row.terms:
                    found.setdefault(same_label(label), set()).add(channel)
                if row.upright:
                    found.setdefault(same_label(row.upright[0]), set()).add(channel)
    return found


def report_recordings(
    paths: Iterable[Path], cohort: str | None = None, montage: Montage | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[list[Coverage], list[RecordingError]]:
    """Coverage of recordings and of those in folders, a group a cohort; and what failed.

    Without `cohort` and `montage` the labels choose, and a group is what one montage fits. Raises
    RecordingError for a path without recordings.
    """  # fmt: skip
    groups: dict[str, Coverage] = {}
    tables: dict[str, dict[str, Montage]] = {}
    labels: dict[str, Counter] = {}
    failures = []
    for done, path in enumerate(_recordings(paths), start=1):
        try:
            recording = open_recording(path)
            chosen = montage or choose_montage(recording, cohort)
            name = cohort or chosen.name
            group = groups.setdefault(name, Coverage(name))
            _count(group, recording, chosen, 1)
        except RecordingError as error:
            failures.append(error)
            continue
        finally:
            progress(done)
        tables.setdefault(name, {})[chosen.name] = chosen
        labels.setdefault(name, Counter()).update({s.label for s in recording.signals})
    for name, group in groups.items():
        group.recordings = group.judged
        _bound(group, (), Counter())
        _name_labels(group, tables[name].values(), labels[name])
    return list(groups.values()), failures


def report_labels(
    path: Path, cohort: str | None = None, montage: Montage | None = None
) -> list[Coverage]:
    """Coverage of a list of labels (JSON, see above), a group a cohort in it.

    Units and rates are unknown there, so a channel resolves by its labels alone. Raises
    RecordingError for a file of another form, or without the `cohort` asked for.
    """
    remedy = "give a JSON of the form in docs/montages.md, or recordings"
    try:
        table = json.loads(Path(path).read_text(encoding="utf-8"))
        lists = {
            str(name): (
                int(row["n_recordings"]),
                {str(label): int(n) for label, n in row["names"].items()},
                [(int(one["n"]), [str(c) for c in one["channels"]])
                 for one in row.get("top_montages", ())],
            )
            for name, row in table.items()
        }  # fmt: skip
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise RecordingError(
            path, f"is no list of labels ({type(error).__name__}: {error})", remedy
        ) from None
    wanted = [name for name in lists if cohort is None or name.casefold() == cohort.casefold()]
    if not wanted:
        raise RecordingError(
            path, f"holds no cohort {cohort!r} ({', '.join(lists) or 'none at all'})", remedy
        )
    return [_report_list(name, *lists[name], montage) for name in wanted]


def _report_list(name, total, names, lists, montage) -> Coverage:
    group = Coverage(name, recordings=total)
    tables = (montage,) if montage else cohort_montages(name) or (load_montage("generic"),)
    rest = Counter(names)
    for count, labels in lists:
        recording = _listed(name, labels)
        chosen = montage or choose_montage(recording, name)
        _count(group, recording, chosen, count)
        rest.subtract({label: count for label in set(labels)})
    if group.judged > total:
        raise RecordingError(
            name, f"has {group.judged} recordings in its montages and {total} in all",
            "correct n_recordings or the montages",
        )  # fmt: skip
    _bound(group, tables, +rest)
    _name_labels(group, tables, Counter(names))
    for one in tables:
        _note_montage(group, one)
    return group


def _listed(name: str, labels: list[str]) -> Recording:
    """A recording of which only the labels are known: usable units and rates, no samples."""
    signals = tuple(
        SignalInfo(label, "uV", 256.0, -1.0, 1.0, 256, "", "") for label in labels
    )
    # Each signal differs from the others, so that no two pass for copies.
    return Recording(Path(name), signals, 1.0, None, (), lambda index: np.array([index]))


def _count(group: Coverage, recording: Recording, montage: Montage, count: int) -> None:
    _note_montage(group, montage)
    group.judged += count
    for name in CHANNELS:
        found = next(candidates(recording, montage, name), None)
        if found is not None:
            source = f"{found.source} (stand-in)" if found.stand_in else found.source
            group.resolved[name][source] += count
        for reason in () if found else unresolved_reasons(recording, montage, name):
            group.reasons[name][reason] += count


def _note_montage(group: Coverage, montage: Montage) -> None:
    group.montages.add(montage.name)
    if not montage.verified:
        group.unverified.add(montage.name)


def _bound(group: Coverage, tables: Iterable[Montage], rest: Counter) -> None:
    """Least and most recordings in which each channel resolves: those judged, and the rest.

    In the rest a row resolves in at most as many as hold its rarest label, and at least in as many
    as its labels cannot avoid one another in.
    """
    left = group.recordings - group.judged
    counts: Counter = Counter()
    for label, n in rest.items():
        counts[same_label(label)] += n
    for name in CHANNELS:
        least = most = 0
        rows = {row.terms: row for table in tables for row in table.channels.get(name, ())}
        for row in rows.values() if left else ():
            low, high = _row_bounds(row, counts, left)
            least, most = max(least, low), most + high
        seen = sum(group.resolved[name].values())
        group.least[name], group.most[name] = seen + least, seen + min(most, left)


def _row_bounds(row: Candidate, counts: Counter, left: int) -> tuple[int, int]:
    if row.unusable or row.occurrence not in (None, 1):
        return 0, 0
    held = [min(left, counts[same_label(label)]) for label, _ in row.terms]
    return max(0, sum(held) - (len(held) - 1) * left), min(held)


def _name_labels(group: Coverage, tables: Iterable[Montage], labels: Counter) -> None:
    tables = tuple(tables)
    known = named_terms(tables)
    others = {same_label(label): what for table in tables for label, what in table.others}
    plain = dict(zip(labels, numbered_labels(labels), strict=True))
    for label, count in labels.items():
        # A list of names joins recordings: X-0 stands there beside another recording's plain X.
        forms = {same_label(label), same_label(plain[label])}
        if not forms.isdisjoint(known) or _numbered_of(label, labels, known):
            continue
        if meant := next((others[form] for form in forms if form in others), None):
            group.others[label] = meant
        else:
            group.unknown[label] = count


def _numbered_of(label: str, labels: Counter, known: dict) -> bool:
    base, _, number = label.rpartition("-")
    return (
        number in ("0", "1", "2", "3") and f"{base}-0" in labels and f"{base}-1" in labels
        and same_label(base) in known
    )  # fmt: skip


def _recordings(paths: Iterable[Path]) -> list[Path]:
    found = []
    for path in map(Path, paths):
        inside = [path] if path.is_file() else sorted(
            p for p in path.rglob("*")
            if p.suffix.casefold() in SUFFIXES and p.is_file()
            and not p.name.startswith(".") and not p.stem.casefold().endswith("hypnogram")
        )  # fmt: skip
        if not inside:
            raise RecordingError(
                path, "holds no recording" if path.is_dir() else "is not there",
                "give recordings, folders of them, or a JSON list of labels",
            )  # fmt: skip
        found += inside
    return found
