"""Stages and events from WFDB annotation files (PhysioNet), read with the wfdb library.

Two forms, told apart by the notes. slpdb's `.st` (https://www.physionet.org/content/slpdb/1.0.0/
README.st) has one note an epoch: a stage (W, 1, 2, 3, 4, R, MT) and the events of that epoch, H
hypopnoea, HA with arousal, OA obstructive apnoea, X with arousal, CA central apnoea, CAA with
arousal, L leg movement, LA with arousal, A arousal. Such an event has an epoch and no onset:
`Event.timed` is False. "LLLL" in the files is taken for four leg movements, and M for MT
(unverified). PhysioNet 2018's `.arousal` has a note where the stage changes (W, N1, N2, N3, R, U)
and a bracketed pair of notes for each event, "(resp_hypopnea" and "resp_hypopnea)". Read in 18 and
2 real files. The challenge's padded target regions (`-arousal.mat`) are no arousals and not read.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path

from sleeplm_jax.config import MOVEMENT, UNSCORED
from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings.scored import Reading, Scored
from sleeplm_jax.recordings.stages import EPOCH_S, LONGEST_S, N1, N2, N3, R, W, reject_codes

MAX_BYTES = 1 << 20  # wfdb keeps six lists; slpdb's largest file has 10 kB
_RESOLUTION = re.compile(rb"## time resolution: [0-9]+(\.[0-9]+)?")
STAGES = {
    "w": W, "1": N1, "2": N2, "3": N3, "4": N3, "r": R, "m": MOVEMENT, "mt": MOVEMENT,
    "n1": N1, "n2": N2, "n3": N3, "u": UNSCORED,
}  # fmt: skip
PER_EPOCH = {
    "H": ("hypopnea",), "HA": ("hypopnea", "arousal"),
    "OA": ("obstructive_apnea",), "X": ("obstructive_apnea", "arousal"),
    "CA": ("central_apnea",), "CAA": ("central_apnea", "arousal"),
    "L": ("limb_movement",), "LA": ("limb_movement", "arousal"), "A": ("arousal",),
}  # fmt: skip
BRACKETED = {
    "resp_hypopnea": "hypopnea", "resp_obstructiveapnea": "obstructive_apnea",
    "resp_centralapnea": "central_apnea", "resp_mixedapnea": "mixed_apnea",
    "resp_cheynestokesbreath": "cheyne_stokes", "resp_hypoventilation": "other",
    "resp_partialobstructive": "other", "arousal_rera": "rera", "arousal_snore": "arousal",
    "arousal_spontaneous": "arousal", "arousal_plm": "arousal", "arousal_bruxism": "arousal",
    "arousal_noise": "arousal",
}  # fmt: skip


def read_wfdb(reading: Reading) -> Scored:
    """Scoring of a WFDB annotation file.

    Raises RecordingError for a damaged file, one without a sampling rate (its .hea gives it where
    the annotations do not), unknown stages or event codes.
    """
    notes, rate = _notes(reading.path)
    if any(text.startswith("(") or text.endswith(")") for _, text in notes):
        return _changes(reading, notes, rate)
    return _per_epoch(reading, notes, rate)


def _notes(path: Path) -> tuple[list[tuple[float, str]], float]:
    """(time s, note) of every annotation that has one, and the sampling rate in Hz."""
    header = path.with_suffix(".hea")
    for file in (path, header):
        if file.is_file() and file.stat().st_size > MAX_BYTES:
            raise RecordingError(file, "more than 1 MiB of annotations", "give one night's scoring")
    # wfdb 4.3 never ends on any other note that begins so, nor on a second one.
    marks = re.findall(rb"## [^\0]{0,40}", path.read_bytes())
    if len(marks) > 1 or any(not _RESOLUTION.match(mark) for mark in marks):
        raise RecordingError(
            path, "has definitions that cannot be read", "give a whole annotation file"
        )
    place = str(path.resolve().with_suffix(""))
    if "::" in place:
        raise RecordingError(path, "has :: in its path", "move or rename the file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its tables are made when it is imported
            import wfdb

            found = wfdb.rdann(place, path.suffix[1:])
        rate = float(found.fs or 0)
        times = [float(sample) for sample in found.sample]
        texts = [str(note).split("\0")[0].strip() for note in found.aux_note]
    except Exception as error:
        raise RecordingError(
            path,
            f"cannot be read as WFDB annotations ({type(error).__name__})",
            "give a whole annotation file with its .hea beside it",
        ) from None
    if not 0 < rate < 1e6:
        raise RecordingError(
            path, "its annotations have no sampling rate", f"put its header {header.name} beside it"
        )
    if any(abs(time) > LONGEST_S * rate for time in times):
        raise RecordingError(path, "has times that no recording lasts", "give a whole file")
    notes = [(time / rate, text) for time, text in zip(times, texts) if text]
    if not notes:
        raise RecordingError(
            path,
            f"holds no sleep stages ({len(times)} annotations without a note)",
            "give the night's stage annotations (.st, .arousal), not its beats",
        )
    return notes, rate


def _per_epoch(reading: Reading, notes, rate: float) -> Scored:
    table, scored, unknown, odd = reading.codes(STAGES), Scored("wfdb"), set(), set()
    for time, text in notes:
        onset = 0.0 if time <= 1.5 / rate else time  # slpdb counts its first sample as 1
        stage, *codes = text.split()
        if stage.casefold() not in table:
            unknown.add(text)
            continue
        scored.spans.append((onset, EPOCH_S, table[stage.casefold()]))
        scored.stage_4 |= stage == "4"
        for code in codes:
            repeated = re.fullmatch("L+", code)
            for _ in range(len(code) if repeated else 1):
                kinds = PER_EPOCH.get("L" if repeated else code)
                if kinds is None:
                    odd.add(code)
                    continue
                for kind in kinds:
                    scored.events.append(
                        reading.event(code, onset, EPOCH_S, kind=kind, timed=False)
                    )
    reject_codes(reading.path, unknown, "W, 1, 2, 3, 4, R, M, MT, then event codes")
    if odd:
        raise RecordingError(
            reading.path,
            f"unknown event codes: {', '.join(sorted(map(repr, odd))[:8])}"[:160],
            f"allowed are {', '.join(PER_EPOCH)}",
        )
    # Stages numbered without an N, of 1989 and before the AASM's manual.
    scored.rules = "R&K"
    return scored


def _changes(reading: Reading, notes, rate: float) -> Scored:
    table, scored, unknown = reading.codes(STAGES), Scored("wfdb", rules="AASM"), set()
    changes, open_since, unpaired = [], {}, 0
    for time, text in notes:
        if text.startswith("("):
            unpaired += text[1:] in open_since
            open_since[text[1:]] = time
        elif text.endswith(")"):
            name, since = text[:-1], open_since.pop(text[:-1], None)
            if since is None:
                unpaired += 1
                continue
            kind = {"kind": BRACKETED[name]} if name in BRACKETED else {}
            scored.events.append(reading.event(name, since, time - since, **kind))
        elif text.casefold() in table:
            changes.append((time, table[text.casefold()]))
        else:
            unknown.add(text)
    reject_codes(reading.path, unknown, "W, N1, N2, N3, R, U and bracketed events")
    unpaired += len(open_since)
    if unpaired:
        scored.flags += (f"unpaired_events: {unpaired} left out, without a beginning or an end",)
    if changes:
        end = reading.duration_s or _length_s(reading.path, rate)
        if end is None:
            end = changes[-1][0] + EPOCH_S
            scored.flags += ("end_unknown: the last stage is taken to last one epoch",)
        ends = [time for time, _ in changes[1:]] + [max(end, changes[-1][0])]
        scored.spans = [
            (time, until - time, stage)
            for (time, stage), until in zip(changes, ends)
            if until > time
        ]
    return scored


def _length_s(path: Path, rate: float) -> float | None:
    """Length of the recording by its header, s; None without one."""
    try:
        import wfdb

        samples = wfdb.rdheader(str(path.resolve().with_suffix(""))).sig_len
        return float(samples) / rate if samples and 0 < samples / rate <= LONGEST_S else None
    except Exception:
        return None  # a header is not needed where the recording's length is known
