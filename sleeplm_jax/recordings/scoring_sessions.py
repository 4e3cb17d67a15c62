"""Stages of several sessions in one table, as in OpenNeuro ds003768's `sourcedata`.

`sub-XX-sleep-stage.tsv` has a row per epoch: (subject,) session ("task-sleep_run-2"),
epoch_start_time_sec, 30-sec_epoch_sleep_stage (W, 1, 2, 3, R). "(uncertain)" behind a stage is the
scorer's doubt: the stage counts, with a flag; "(unscorable)" is no stage, whatever stands before
it. Read in the 33 files of the dataset, which do not say by which rules they were scored.
"""

from __future__ import annotations

import re

from sleeplm_jax.config import UNSCORED
from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings.plain_text import rows, seconds
from sleeplm_jax.recordings.scored import Reading, Scored
from sleeplm_jax.recordings.stages import STAGE_WORDS, reject_codes

SESSION, ONSET = "session", "epoch_start_time_sec"
_EPOCH = re.compile(r"([0-9]{1,3})-sec_epoch_sleep_stage")
_RUN_ON = re.compile(r"([0-9.]+) +(\S.*)")  # "810 W": sub-32 has a space for a tab
_LABEL = re.compile(r"(.*?)\s*\((uncertain|unscorable)\)", re.IGNORECASE)


def read_sessions(reading: Reading, text: str) -> Scored:
    """The scoring of the session that the recording's name contains.

    Raises RecordingError where it names none of several sessions, or for unknown labels.
    """
    path = reading.path
    header, *body = rows(path, text, "\t")
    stage_column = next((c for c in header if _EPOCH.fullmatch(c)), None)
    if stage_column is None or not {SESSION, ONSET} <= set(header):
        raise RecordingError(
            path,
            f"has the columns {', '.join(header)[:120]}",
            f"{SESSION}, {ONSET} and 30-sec_epoch_sleep_stage are needed",
        )
    epoch_s = float(_EPOCH.fullmatch(stage_column)[1])
    at = [header.index(name) for name in (SESSION, ONSET, stage_column)]
    by_session: dict[str, list] = {}
    for line, row in enumerate(body, start=2):
        row += [""] * (len(header) - len(row))  # a row without a label is one nobody scored
        if not row[at[0]] or len(row) > len(header) + 1:
            raise RecordingError(path, f"line {line} has {len(row)} cells", "correct that line")
        onset, label = row[at[1]], row[at[2]]
        if not label and (match := _RUN_ON.fullmatch(onset)):
            onset, label = match.groups()
        by_session.setdefault(row[at[0]], []).append((line, onset, label))
    session = _chosen(reading, list(by_session))
    table = reading.codes(STAGE_WORDS | {"unscorable": UNSCORED, "": UNSCORED})
    unknown, doubtful = set(), 0
    scored = Scored("sessions")
    for line, onset, label in by_session[session]:
        stage, match = table.get(label.casefold()), _LABEL.fullmatch(label)
        if match and match[2].casefold() == "unscorable":
            stage = UNSCORED
        elif match:
            stage = table.get(match[1].casefold())
            doubtful += 1
        if stage is None:
            unknown.add(label)
        else:
            scored.spans.append((seconds(path, line, onset), epoch_s, stage))
    reject_codes(path, unknown, "W, 1, 2, 3, R, with (uncertain) or (unscorable)")
    if empty := sum(not label for _, _, label in by_session[session]):
        scored.flags = (f"stages_without_label: {empty} epochs, left unscored",)
    if doubtful:
        scored.flags += (f"uncertain_stages: {doubtful} epochs, marked so by the scorer",)
    return scored


def _chosen(reading: Reading, sessions: list[str]) -> str:
    name = reading.recording.name if reading.recording else ""
    fit = [s for s in sessions if re.search(rf"(^|_){re.escape(s)}(_|\.|$)", name)]
    if len(fit) == 1:
        return fit[0]
    if len(sessions) == 1 and not name:
        return sessions[0]
    raise RecordingError(
        reading.path,
        f"scores the sessions {', '.join(sessions)[:160]}, none or several of them named by the "
        f"recording {name[:60]!r}",
        "name the recording after its session, as in sub-01_task-sleep_run-2_eeg.edf",
    )
