"""The tables against a file of labels reviewed by somebody who had not seen them.

`reviewed_labels.csv` says of every label of five cohorts' public lists what it is: a channel (or
several, with | between, for a reference), or none of ours (empty), with its source. Weights are the
recordings that hold the label.

One definition throughout. A *claim* is a label that stands in a row of a channel, whether the row
is read, a `stand_in` or `unusable`: each says that the label is that channel's. Precision is the
share of right claims among the claims; recall the share of claimed ones among the labels that the
review gives a channel. Labels of which the review says "Leaving it out is also right." need no
claim, and a claim to their channel is right.
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


def channels_by_label(cohort):
    found = {}
    for montage in cohort_montages(cohort):
        for channel, rows in montage.channels.items():
            for row in rows:
                for label, _ in row.terms:
                    found.setdefault(same_label(label), set()).add(channel)
    return found


def judged(cohort):
    """(precision, recall, [wrong], [missed]), labels weighted by the recordings that hold them."""
    rows = reviewed(cohort)
    # Numbered labels of a list that joins recordings: beside no plain one they are one label.
    numbered = [row["label"] for row in rows if row["label"][-2:] in ("-0", "-1")]
    plain = dict(zip(numbered, numbered_labels(numbered), strict=True))
    named = channels_by_label(cohort)
    right = bad = found = lost = 0
    wrong, missed = [], []
    for row in rows:
        label, count = row["label"], int(row["count"])
        ours = named.get(same_label(plain.get(label, label)), set())
        theirs = set(filter(None, row["channel"].split("|")))
        either = row["note"].endswith("Leaving it out is also right.")
        # A reference serves the other side too, where the right one is dead.
        agrees = bool(ours & theirs) and (row["role"] == "reference" or ours <= theirs)
        if ours and agrees:
            right += count
        elif ours:
            bad += count
            wrong.append(label)
        if ours & theirs:
            found += count
        elif theirs and not either:
            lost += count
            missed.append(label)
    return right / (right + bad), found / (found + lost), wrong, missed


@pytest.mark.parametrize(
    "cohort, recordings", [("SHHS", 8444), ("MROS", 3933), ("APPLES", 1104), ("ISRUC", 110)]
)
def test_labels_mean_what_the_reviewer_says(cohort, recordings):
    precision, recall, wrong, missed = judged(cohort)
    assert precision == 1.0, wrong
    assert recall > 0.99, missed
    assert max(int(row["count"]) for row in reviewed(cohort)) <= recordings


def test_stages_labels_mean_what_the_reviewer_says():
    precision, recall, wrong, missed = judged("STAGES")
    assert precision == 1.0, wrong
    assert recall > 0.99, missed


@pytest.mark.parametrize("cohort", ["SHHS", "MROS", "APPLES", "ISRUC", "STAGES"])
def test_what_the_reviewer_calls_unclear_is_claimed_by_no_row(cohort):
    named = channels_by_label(cohort)
    unclear = [row["label"] for row in reviewed(cohort) if row["role"] == "unclear"]
    assert unclear and not [label for label in unclear if same_label(label) in named]


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
    precision, recall, _, _ = judged("SHHS")
    assert precision < 0.9 and recall < 0.9
