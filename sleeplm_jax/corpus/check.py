"""Proving that a corpus does not leak: nothing of a held-out split is known to the others.

Read are the samples themselves, every one: what the manifest says of them is checked too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from sleeplm_jax.corpus.fingerprints import SignalsHash, epoch_print, shared_prints
from sleeplm_jax.corpus.manifest import Corpus, read_manifest
from sleeplm_jax.corpus.nightfile import CODES, dequantise
from sleeplm_jax.corpus.progress import Progress
from sleeplm_jax.corpus.shards import Shards
from sleeplm_jax.corpus.splits import family, family_of_people, person
from sleeplm_jax.corpus.tokenizer import ABOUT, Tokenizer, retrained
from sleeplm_jax.errors import CorpusError
from sleeplm_jax.places import Place, place
from sleeplm_jax.recordings.channels import CHANNELS
from sleeplm_jax.recordings.signals import robust_scale
from sleeplm_jax.recordings.stages import EPOCH_S

SHARED_EPOCHS = 5  # two nights that share so many are one recording; chance gives none of 2^63
# What a night that was scaled by its own statistics has for them afterwards is 1, less what
# clipping at 6 z takes and what artefacts bring; a cohort's amplitudes differ by far more.
OWN_SCALE = (0.7, 1.4)
OWN_OFFSET = 0.5
FEWEST_NIGHTS = 3  # fewer say nothing about what nights have in common
SHARDS, SAMPLES, SUBJECTS, FAMILIES = "shards", "samples", "subjects", "families"
DUPLICATES, PARTS, TOKENIZER, NORMALISATION = "duplicates", "parts", "tokenizer", "normalisation"
SHOWN = 5  # findings of one kind that are named; the rest are counted


@dataclass(frozen=True)
class Check:
    """What was looked at, and what is wrong; `notes` are no leaks but worth knowing."""

    name: str
    looked_at: str
    findings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass
class _Night:
    """What the samples of one recording in one split were found to be."""

    split: str
    recording: str
    people: set[str] = field(default_factory=set)
    samples: int = 0
    signals_sha256: str = ""
    prints: np.ndarray | None = None
    statistics: int = 0  # different scales and offsets that its samples carry
    scale: np.ndarray | None = None  # float32 [C], of the first sample
    alien: tuple[str, ...] = ()  # channels that other statistics than the night's own scaled


def check_corpus(path: str | Place, progress: bool = True) -> list[Check]:
    """Every check of the corpus at `path`, in order; it is free of leaks where none has findings.

    Raises CorpusError when there is no corpus or its manifest cannot be read.
    """
    where = place(path)
    corpus = Corpus(where, read_manifest(where))
    rows = corpus.nights()
    shards, nights = _shards(corpus), None
    if not shards.findings:
        try:
            nights = _read(corpus, progress)
        except CorpusError as error:
            shards = Check(shards.name, shards.looked_at, (f"{error.where}: {error.finding}",))
    checks = [shards]
    if nights is not None:
        checks.append(_samples(rows, nights))
    checks += [_subjects(rows, nights or []), _families(rows), _duplicates(rows)]
    if nights is not None:
        checks += [_parts(rows, nights), _tokenizer(corpus), _normalisation(nights, corpus)]
    else:
        unread = "not looked at, the shards being damaged"
        checks += [Check(name, unread) for name in (SAMPLES, PARTS, TOKENIZER, NORMALISATION)]
    return checks


def _shards(corpus: Corpus) -> Check:
    files = corpus.manifest["shards"]["files"]
    looked = f"{len(files)} files, sizes and SHA-256"
    try:
        corpus.verify(hashes=True)
    except CorpusError as error:
        return Check(SHARDS, looked, (f"{error.where}: {error.finding}",))
    return Check(SHARDS, looked)


def _read(corpus: Corpus, progress: bool) -> list[_Night]:
    folder, total = corpus.shards(), sum(corpus.samples(split) for split in corpus.splits)
    nights = []
    with Progress("checking", total, enabled=progress) as bar:
        for split in corpus.splits:
            samples = Shards(folder, split)
            for recording, members in groupby(samples, key=lambda s: s["recording"].decode()):
                night = _night(split, recording, members, corpus)
                nights.append(night)
                bar.advance(night.samples, recording)
    return nights


def _night(split: str, recording: str, samples: Iterator[dict], corpus: Corpus) -> _Night:
    night, digest = _Night(split, recording), SignalsHash()
    channels, prints, statistics = corpus.spec.channels, [], set()
    signals, masks = [], []
    for sample in samples:
        signal, mask = sample["signal"], np.asarray(sample["mask"], bool)
        digest.add(signal, mask)
        prints.append(epoch_print(signal, mask, channels))
        statistics.add(sample["scale"].tobytes() + sample["offset"].tobytes())
        if night.scale is None:
            night.scale = sample["scale"]
        night.people.add(f"{sample['cohort'].decode()}/{sample['subject'].decode()}")
        night.samples += 1
        signals.append(signal)
        masks.append(mask)
    night.signals_sha256, night.statistics = digest.hexdigest(), len(statistics)
    night.prints = np.array(prints, np.uint64)
    night.alien = _alien(np.stack(signals), np.stack(masks), corpus)
    return night


def _alien(signals: np.ndarray, masks: np.ndarray, corpus: Corpus) -> tuple[str, ...]:
    """Channels of int16 [E, C, T] whose scale and offset are not those of these samples."""
    spec, found = corpus.spec, []
    window = min(len(signals) * spec.samples, round(EPOCH_S * spec.rate))
    for c, name in enumerate(spec.channels):
        if name in CODES or not masks[:, c].any():
            continue
        values = dequantise(signals[masks[:, c], c : c + 1], (name,)).ravel()
        own = robust_scale(
            values, window, np.zeros(len(values) // window, bool), CHANNELS[name].loudest
        )
        if own is None:
            continue
        offset, scale, _ = own
        if not (OWN_SCALE[0] <= scale <= OWN_SCALE[1] and abs(offset) <= OWN_OFFSET):
            found.append(name)
    return tuple(found)


def _samples(rows: list[dict], nights: list[_Night]) -> Check:
    """Whether the samples are those that the manifest says."""
    said = {(row["split"], row["recording"]): row for row in rows if row["samples"]}
    read: dict[tuple[str, str], list[_Night]] = defaultdict(list)
    for night in nights:
        read[night.split, night.recording].append(night)
    findings = []
    for key in sorted(set(said) | set(read)):
        split, recording = key
        if key not in said:
            findings.append(f"{recording} has samples in {split}, the manifest names none there")
        elif key not in read:
            findings.append(f"{recording} has no samples in {split}, the manifest names some")
        elif len(read[key]) > 1 or read[key][0].samples != said[key]["samples"]:
            count = sum(night.samples for night in read[key])
            findings.append(f"{recording} has {count} samples in {split}, "
                            f"the manifest says {said[key]['samples']}")  # fmt: skip
        elif read[key][0].signals_sha256 != said[key]["signals_sha256"]:
            findings.append(f"{recording}: signals in {split} are not those of the manifest")
        elif read[key][0].people != {person(said[key])}:
            findings.append(f"{recording}: its samples in {split} name another subject")
    total = sum(night.samples for night in nights)
    looked = f"{total:,} samples of {len(said)} nights against the manifest"
    return _check(SAMPLES, looked, findings)


def _subjects(rows: list[dict], nights: list[_Night]) -> Check:
    where: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        where[person(row)].add(row["split"])
    for night in nights:
        for one in night.people:
            where[one].add(night.split)
    return _check(SUBJECTS, f"{len(where)} subjects", [
        f"{one} is in {_and(splits)}" for one, splits in sorted(where.items()) if len(splits) > 1
    ])


def _families(rows: list[dict]) -> Check:
    families = family_of_people(rows)
    where: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for row in rows:
        if person(row) in families:
            where[families[person(row)]][row["split"]].add(person(row))
    findings = [
        f"{name}: " + ", ".join(f"{min(people)} is in {split}" for split, people in
                                sorted(splits.items()))
        for name, splits in sorted(where.items()) if len(splits) > 1
    ]
    named = sum(family(row) is not None for row in rows)
    return _check(FAMILIES, f"{len(where)} families and repeat visits; {named} of {len(rows)} "
                  "nights name a family", findings)  # fmt: skip


def _duplicates(rows: list[dict]) -> Check:
    by_signals: dict[str, list[dict]] = defaultdict(list)
    for row in rows:
        if row["samples"]:
            by_signals[row["signals_sha256"]].append(row)
    findings, notes = [], []
    for same in by_signals.values():
        if len(same) > 1:
            text = " and ".join(f"{row['recording']} ({row['split']})" for row in same)
            across = len({row["split"] for row in same}) > 1
            (findings if across else notes).append(f"{text} hold the same signals")
    return _check(DUPLICATES, f"hashes of {len(rows)} nights' signals", findings, notes)


def _parts(rows: list[dict], nights: list[_Night]) -> Check:
    exact = {(row["split"], row["recording"]): row["signals_sha256"] for row in rows}
    findings, notes = [], []
    printed = sum(int(np.count_nonzero(night.prints)) for night in nights)
    for i, j, count in shared_prints([night.prints for night in nights]):
        a, b = nights[i], nights[j]
        if count < SHARED_EPOCHS or exact.get((a.split, a.recording)) == exact.get(
            (b.split, b.recording)
        ):
            continue
        text = f"{a.recording} ({a.split}) and {b.recording} ({b.split}) share {count} epochs"
        (findings if a.split != b.split else notes).append(text)
    return _check(PARTS, f"prints of {printed:,} epochs", findings, notes)


def _tokenizer(corpus: Corpus) -> Check:
    looked = "trained anew on the train split, bytes compared"
    try:
        tokenizer = Tokenizer.load(corpus.path)
    except CorpusError as error:
        if (corpus.path / ABOUT).exists():
            return Check(TOKENIZER, looked, (f"{error.where}: {error.finding}",))
        return Check(TOKENIZER, "there is none")
    if tokenizer.corpus_hash != corpus.hash:
        return Check(TOKENIZER, looked, (
            "was trained on an earlier state of the corpus, whose splits may have been others; "
            f"run `sleeplm tokenizer --corpus {corpus.path}`",
        ))  # fmt: skip
    if tokenizer.kind != Tokenizer.kind:
        return Check(TOKENIZER, "a published vocabulary, which has read no corpus")
    again = retrained(corpus, tokenizer)
    if again is None:
        return Check(TOKENIZER, looked, (
            "cannot be proved: captions or sentencepiece are of another version than it was "
            f"trained with; run `sleeplm tokenizer --corpus {corpus.path}`",
        ))  # fmt: skip
    if again.hash != tokenizer.hash:
        return Check(TOKENIZER, looked, ("is not the one that the train split gives",))
    return Check(TOKENIZER, looked)


def _normalisation(nights: list[_Night], corpus: Corpus) -> Check:
    findings = [
        f"{night.recording} ({night.split}) carries {night.statistics} different scales"
        for night in nights if night.statistics > 1
    ]
    notes = []
    for c, name in enumerate(corpus.spec.channels):
        if name in CODES:
            continue
        scaled = [night for night in nights if night.scale is not None and night.scale[c] > 0]
        if len(scaled) < FEWEST_NIGHTS:
            continue
        values, counts = np.unique([night.scale[c] for night in scaled], return_counts=True)
        if counts.max() > len(scaled) / 2:
            findings.append(f"{name} is scaled alike in {counts.max()} of {len(scaled)} nights "
                            f"({values[counts.argmax()]:g}), as by statistics of all")  # fmt: skip
        alien = [night for night in scaled if name in night.alien]
        if len(alien) > len(scaled) / 2:
            findings.append(f"{name} is not scaled by the nights' own statistics in {len(alien)} "
                            f"of {len(scaled)} nights")  # fmt: skip
        elif alien:
            notes.append(f"{name}: spread or offset of {_and(n.recording for n in alien)} differ "
                         "from the night's own scale, as artefacts may make them")  # fmt: skip
    return _check(NORMALISATION, f"one scale a night, its own, in {len(nights)} nights",
                  findings, notes)  # fmt: skip


def _check(name: str, looked_at: str, findings: Sequence[str], notes: Sequence[str] = ()) -> Check:
    return Check(name, looked_at, _shortened(findings), _shortened(notes))


def _shortened(lines: Sequence[str]) -> tuple[str, ...]:
    more = len(lines) - SHOWN
    return tuple(lines) if more <= 0 else (*lines[:SHOWN], f"and {more} more")


def _and(words: Iterable[str]) -> str:
    words = sorted(words)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
