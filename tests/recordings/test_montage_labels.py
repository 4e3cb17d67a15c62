"""The tables against a file of labels reviewed by somebody who had not seen them.

`reviewed_labels.csv` says of every label of five cohorts' public lists what it is: a channel (or
several, with | between, for a reference), or none of ours (empty), with its source. Weights are the
recordings that hold the label.

A label is *recognised* for the channels whose rows it stands in. A *claim* is what a row does that
is read and is no stand-in: rows marked `unusable` are never read, and a `stand_in` (APPLES' one leg
signal, of a leg that is not stated) says itself that it is not the channel.
"""

import csv
from pathlib import Path

import pytest

from sleeplm_jax.recordings.channels import CHANNELS
from sleeplm_jax.recordings.montage import cohort_montages
from sleeplm_jax.recordings.montage_match import numbered_labels, same_label

REVIEWED = Path(__file__).parent / "reviewed_labels.csv"


def reviewed(cohort):
    with REVIEWED.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["cohort"] == cohort]


def channels_by_label(cohort, claims_only):
    found = {}
    for montage in cohort_montages(cohort):
        for channel, rows in montage.channels.items():
            for row in rows:
                if claims_only and (row.stand_in or row.unusable):
                    continue
                for label, _ in row.terms:
                    found.setdefault(same_label(label), set()).add(channel)
    return found


def judged(cohort):
    """(precision, recall, strict precision, read recall, [wrong], [missed]), by recordings."""
    rows = reviewed(cohort)
    # Numbered labels of a list that joins recordings: beside no plain one they are one label.
    numbered = [row["label"] for row in rows if row["label"][-2:] in ("-0", "-1")]
    plain = dict(zip(numbered, numbered_labels(numbered), strict=True))
    totals = {}
    wrong, missed = [], []
    for claims_only in (True, False):
        named = channels_by_label(cohort, claims_only)
        right = bad = found = lost = 0
        for row in rows:
            label, count = row["label"], int(row["count"])
            ours = named.get(same_label(plain.get(label, label)), set())
            theirs = set(filter(None, row["channel"].split("|")))
            # A reference serves the other side too, where the right one is dead.
            agrees = bool(ours & theirs) and (row["role"] == "reference" or ours <= theirs)
            if ours and agrees:
                right += count
            elif ours:
                bad += count
                wrong += [label] if claims_only else []
            if theirs:
                found += count if ours & theirs else 0
                lost += 0 if ours & theirs else count
                missed += [label] if not (claims_only or ours & theirs) else []
        totals[claims_only] = right / (right + bad), found / (found + lost)
    (precision, read), (strict, recall) = totals[True], totals[False]
    return precision, recall, strict, read, wrong, missed


@pytest.mark.parametrize(
    "cohort, recordings", [("SHHS", 8444), ("MROS", 3933), ("APPLES", 1104), ("ISRUC", 110)]
)
def test_labels_mean_what_the_reviewer_says(cohort, recordings):
    precision, recall, _, _, wrong, missed = judged(cohort)
    assert precision == 1.0, wrong
    assert recall > 0.99, missed
    assert max(int(row["count"]) for row in reviewed(cohort)) <= recordings


def test_stages_labels_mean_what_the_reviewer_says():
    precision, recall, _, _, wrong, missed = judged("STAGES")
    assert precision == 1.0, wrong
    assert recall > 0.99, missed


def test_the_review_is_whole_and_speaks_of_our_channels(psg):
    import json

    lists = json.loads((psg / "channel_names" / "cohort_channel_names.json").read_text())
    for cohort, listed in lists.items():
        rows = {row["label"]: int(row["count"]) for row in reviewed(cohort)}
        assert rows == listed["names"]
        named = {c for row in reviewed(cohort) for c in row["channel"].split("|") if c}
        assert named <= set(CHANNELS)


def test_a_wrong_row_is_noticed(monkeypatch):
    # The measure itself: read SHHS as the published code does that has C3 and C4 exchanged.
    import dataclasses

    import tests.recordings.test_montage_labels as this

    (shhs,) = cohort_montages("shhs")
    swapped = shhs.channels | {"C3": shhs.channels["C4"], "C4": shhs.channels["C3"]}
    wrong = dataclasses.replace(shhs, channels=swapped)
    monkeypatch.setattr(this, "cohort_montages", lambda cohort: (wrong,))
    precision, recall, *_ = judged("SHHS")
    assert precision < 0.9 and recall < 0.9
