"""What `sleeplm prepare` would do, told without writing anything (`--dry-run`)."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from sleeplm_jax.config import SignalSpec
from sleeplm_jax.corpus.jobs import NightJob, holds, is_current, night_file, why_again
from sleeplm_jax.corpus.pool import default_workers
from sleeplm_jax.corpus.prepare import Survey
from sleeplm_jax.corpus.progress import Progress
from sleeplm_jax.errors import UserError

KINDS = ("new", "changed", "unchanged")
BYTES_A_SAMPLE = 2  # int16
FURTHER_BYTES = 3000  # an epoch's record, events and masks, about


@dataclass(frozen=True)
class PlannedNight:
    """A recording before it is prepared, as far as its header tells."""

    file: str
    night: str
    kind: str  # of KINDS
    reason: str
    scoring: str | None = None  # the file's name; None: none beside the recording
    montage: str | None = None
    missing: tuple[str, ...] = ()  # channels of the spec that no label gives
    hours: float = 0.0
    bytes: int = 0  # of its night file, about; trimming makes it smaller
    problem: str = ""  # why it will not be prepared, where the header says so already


@dataclass(frozen=True)
class Plan:
    """The nights in the order of their names, what leaves the corpus, and what it would take."""

    nights: tuple[PlannedNight, ...]
    removed: tuple[str, ...]  # nights of the corpus that are not among the recordings
    unlisted: tuple[str, ...]  # folders that cannot be searched
    workers: int
    seconds: float | None  # for what is new or changed; None without nights to judge by
    basis: str  # what `seconds` rests on

    def of(self, kind: str) -> list[PlannedNight]:
        """The nights of one of KINDS."""
        return [night for night in self.nights if night.kind == kind]

    @property
    def bytes(self) -> int:
        """What would be written, about: night files, and the shards, which hold every night."""
        good = [night for night in self.nights if not night.problem]
        todo = sum(night.bytes for night in good if night.kind != "unchanged")
        return todo + sum(night.bytes for night in good) if todo or self.removed else 0


def plan(seen: Survey, workers: int | None = None, progress: bool = False) -> Plan:
    """Judges every night as `prepare_corpus` would; reads headers, and whole files only where
    their time changed, to see whether their content did.

    `seen`: of `prepare.survey`.
    """
    nights = []
    with Progress("looking", len(seen.jobs), enabled=progress) as bar:
        for job in seen.jobs:
            nights.append(_planned(job, seen))
            bar.advance(1, job.night)
    wanted = {job.night for job in seen.jobs}
    removed = sorted(
        name.removesuffix(".json") for name in seen.there
        if name.endswith(".json") and name.removesuffix(".json") not in wanted
    ) if not seen.unlisted else []
    todo = [night for night in nights if night.kind != "unchanged" and not night.problem]
    workers = workers or default_workers(len(todo))
    rates = [
        row["seconds"] / row["about"]["epochs"] for row in seen.rows.values()
        if row.get("seconds") and row["about"]["epochs"]
    ]
    seconds, basis = None, "no night of this corpus was timed yet"
    if rates:
        epochs = sum(night.hours for night in todo) * 3600 / 30
        seconds = statistics.median(rates) * epochs / workers
        basis = f"the median of {len(rates)} nights of this corpus, {workers} at a time"
    return Plan(
        tuple(nights), tuple(removed), tuple(error.where for error in seen.unlisted), workers,
        seconds, basis,
    )


def _planned(job: NightJob, seen: Survey) -> PlannedNight:
    row = seen.rows.get(job.night)
    file = str(job.path)
    try:
        if is_current(row, job, seen.there):
            return _unchanged(job, row, file, "as in the corpus")
        made_of = job.made_of()
        if holds(row, made_of, night_file(job.nights, job.night)):
            return _unchanged(job, row, file, "touched, but of the same content")
        kind = "new" if row is None else "changed"
        return _headed(job, file, kind, why_again(row, made_of) if row else "")
    except UserError as error:
        kind = "new" if row is None else "changed"
        return PlannedNight(file, job.night, kind, "", problem=error.finding)
    except OSError as error:
        kind = "new" if row is None else "changed"
        return PlannedNight(
            file, job.night, kind, "", problem=f"cannot be read ({error.strerror or error})"
        )


def _unchanged(job: NightJob, row: dict, file: str, reason: str) -> PlannedNight:
    about, spec = row["about"], job.spec
    scoring = row["made_of"].get("scoring")
    return PlannedNight(
        file, job.night, "unchanged", reason,
        scoring=scoring[0] if scoring else None, montage=about.get("montage"),
        missing=tuple(name for name in spec.channels if not about["channels"].get(name)),
        hours=about["epochs"] * spec.seconds / 3600, bytes=row.get("bytes", 0),
    )


def _headed(job: NightJob, file: str, kind: str, reason: str) -> PlannedNight:
    from sleeplm_jax.recordings.montage_match import candidates, montage_for
    from sleeplm_jax.recordings.opening import open_recording

    recording = open_recording(job.path)
    montage = montage_for(recording, job.montage, job.cohort)
    missing = tuple(
        name for name in job.spec.channels if next(candidates(recording, montage, name), None)
        is None
    )
    epochs = int(recording.duration_s / job.spec.seconds + 1e-6)
    scoring = job.inputs()["scoring"]
    return PlannedNight(
        file, job.night, kind, reason, scoring=scoring.name if scoring else None,
        montage=montage.name, missing=missing, hours=recording.duration_s / 3600,
        bytes=epochs * _epoch_bytes(job.spec),
        problem="no usable channel" if not set(job.spec.channels) - {"POS", *missing} else "",
    )


def _epoch_bytes(spec: SignalSpec) -> int:
    return BYTES_A_SAMPLE * len(spec.channels) * spec.samples + FURTHER_BYTES


def told(found: Plan, shown: int = 20) -> list[str]:
    """A plan in lines for a person; at most `shown` nights of a kind are named."""
    lines = []
    for kind in KINDS:
        nights = found.of(kind)
        lines.append(f"{len(nights)} {'night' if len(nights) == 1 else 'nights'} {kind}")
        if kind == "unchanged":
            continue
        for night in nights[:shown]:
            lines.append(f"  {night.night}: {_words(night)}")
        if len(nights) > shown:
            lines.append(f"  and {len(nights) - shown} more")
    if found.removed:
        names = ", ".join(found.removed[:shown])
        more = "" if len(found.removed) <= shown else f" and {len(found.removed) - shown} more"
        lines.append(f"{len(found.removed)} would leave the corpus, not being among the "
                     f"recordings: {names}{more}")  # fmt: skip
    for folder in found.unlisted:
        lines.append(f"{folder}: folder cannot be listed, its nights are not counted")
    problems = sum(bool(night.problem) for night in found.nights)
    if problems:
        lines.append(f"{problems} will fail, by their headers")
    lines.append(f"about {found.bytes / 1e9:.2g} GB would be written")
    if any(night.kind != "unchanged" for night in found.nights):
        took = "unknown" if found.seconds is None else f"about {_long(found.seconds)}"
        lines.append(f"time: {took} ({found.basis})")
    lines.append("nothing was written")
    return lines


def _words(night: PlannedNight) -> str:
    if night.problem:
        return f"will fail: {night.problem}"
    parts = [night.reason, f"{night.hours:.1f} h", f"montage {night.montage}",
             f"scoring {night.scoring}" if night.scoring else "no scoring file beside it"]
    if night.missing:
        parts.append(f"without {', '.join(night.missing)}")
    return "; ".join(part for part in parts if part)


def _long(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
