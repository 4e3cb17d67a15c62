"""Captions against measurements: exact for the pipeline's own, errors by hand for a model's."""

import re

import numpy as np
import pytest

from sleeplm_jax.captions import check
from sleeplm_jax.captions.check import check_captions, grade
from sleeplm_jax.captions.record import stated
from sleeplm_jax.captions.render import render
from sleeplm_jax.config import CAPTION_KINDS
from sleeplm_jax.errors import CorpusError

from .drawing import drawn_record, measurement

EMPTY = {
    "stage": None, "events": [], "measurements": [], "missing": [], "scored": [], "stand_ins": [],
}  # fmt: skip


def named(count):
    return [(f"sample {i}", drawn_record(i)) for i in range(count)]


def event(kind, onset, end):
    return {"kind": kind, "onset": onset, "end": end, "continues_from": False,
            "continues_into": False, "channel": None}  # fmt: skip


def test_the_pipelines_own_captions_agree_in_every_statement():
    found = check_captions(named(25))
    assert found.findings == [] and found.records == 25 and found.captions > 1000
    assert len(found.lines) > 35 and all(line.agreed == line.stated > 0 for line in found.lines)
    numbers = [line for line in found.lines if line.worst is not None]
    assert len(numbers) >= 18
    assert all(0 <= line.worst <= line.allowed + 1e-9 for line in numbers)


def spoiled(monkeypatch, spoil):
    """check_captions of captions that `spoil` changed."""

    def worse(*arguments):
        text = render(*arguments)
        return text and spoil(text)

    monkeypatch.setattr(check, "render", worse)
    return check_captions(named(20))


@pytest.mark.parametrize(
    ("spoil", "finding"),
    [
        (lambda text: re.sub(r"\b(\d)(\d)%", r"\2\1%", text), "_power of C. .*is lost"),
        (lambda text: re.sub("desaturation|hypopno?ea", "arousal", text), "is added"),
        (lambda text: re.sub(r"from \d+\.", "from 0.", text), "is added"),
        (lambda text: text + " The moon is full.", "cannot be read"),
        (lambda text: text.replace(" (stand-in)", ""), "stand-in of .*is lost"),
        (lambda text: text.split(". ")[0], "is lost"),
    ],
)
def test_a_wrong_caption_is_found_in_one_line(spoil, finding, monkeypatch):
    findings = spoiled(monkeypatch, spoil).findings
    assert any(re.search(finding, line) for line in findings), findings
    assert all("\n" not in line and line.startswith("sample ") for line in findings)


def test_a_statement_that_rounds_wrongly_is_found(monkeypatch):
    """`stated` itself is held against the measurement: both sides of the round trip use it."""

    def rough(*arguments):
        content = stated(*arguments)
        if content and "heart" in content.get("channels", {}):
            said = content["channels"]["heart"]
            if "heart_rate_mean" in said and not isinstance(said["heart_rate_mean"], str):
                said["heart_rate_mean"] += 1
        return content

    monkeypatch.setattr(check, "stated", rough)
    monkeypatch.setattr("sleeplm_jax.captions.render.stated", rough)
    findings = check_captions(named(6)).findings
    assert findings and all("heart_rate_mean" in line for line in findings)
    assert "is not what was measured" in findings[0]


def test_a_record_of_another_form_is_refused():
    with pytest.raises(CorpusError, match="sample 0"):
        check_captions([("sample 0", {**EMPTY, "stage": "S2"})])


def test_grades_of_the_measured_captions_are_perfect():
    records = [drawn_record(i) for i in range(40)]
    for kind in CAPTION_KINDS:
        texts = [render(r, kind, np.random.default_rng(0)) or "" for r in records]
        found = grade(texts, records, kind)
        assert found["unread"] == 0 and found["features"]
        for part in found["features"].values():
            assert part["stated"] == 1 and part["invented"] == 0 and part["said"] == part["n"]
            assert part.get("mae", 0) == part.get("time_mae", 0) == 0
            assert part.get("agreement", 1) == 1
    assert found["stage"]["agreement"] == found["events"]["exact"] == found["events"]["kinds"] == 1


def test_errors_of_numbers_by_hand():
    def record(values):
        return {**EMPTY, "measurements": [measurement(f, v, "AF") for f, v in values.items()]}

    records = [
        record({"respiratory_rate": 14.2}),
        record({"respiratory_rate": 20.0, "breath_interval_variability": 0.42}),
        record({"respiratory_rate": 11.0, "breath_interval_variability": 1.2}),
        record({"respiratory_rate": 18.0}),
    ]
    texts = [
        "Airflow: 17 breaths/min.",  # three too many
        "Airflow shows 19 breaths/min and 0.4 s interval variability.",  # one too few; right
        "Airflow: hum.",  # nothing
        "Airflow: 18 breaths/min and interval variability 0.9 s.",  # right; invented
    ]
    found = grade(texts, records, "respiratory")
    rate, spread = (found["features"][f] for f in ("respiratory_rate",
                                                   "breath_interval_variability"))  # fmt: skip
    assert rate == {"n": 4, "stated": 0.75, "said": 3, "invented": 0.0,
                    "mae": pytest.approx((3 + 1 + 0) / 3)}  # fmt: skip
    assert spread == {"n": 2, "stated": 0.5, "said": 2, "invented": 0.5, "mae": pytest.approx(0)}
    assert found["unread"] == 0.25


def test_stages_and_events_by_hand():
    records = [
        {**EMPTY, "stage": "N2", "events": [event("arousal", 2.0, 9.0), event("hypopnea", 1, 30)]},
        {**EMPTY, "stage": "N1", "events": [], "scored": ["arousal"]},
        {**EMPTY, "stage": "R", "events": [event("arousal", 4.0, 8.0)]},
        {**EMPTY, "stage": "N3", "events": []},
    ]
    texts = [
        "This epoch is N2 sleep. A hypopnoea runs from 1.5 to 30.0 s. "
        "An arousal runs from 2.0 to 8.0 s.",
        "This epoch is N1 light sleep. No arousal is scored.",
        "Staging gives stage N1 sleep here. An arousal runs from 4.0 to 8.0 s.",
        "An arousal runs from 4.0 to 8.0 s.",
    ]
    found = grade(texts, records, "stage_event")
    assert found["stage"] == {"n": 4, "stated": 0.75, "agreement": 0.5}
    assert found["events"] == {"n": 4, "exact": 0.5, "kinds": 0.75}
    arousal, hypopnea, none = (found["features"][f] for f in ("arousal", "hypopnea", "no event"))
    assert (arousal["n"], arousal["said"], arousal["stated"]) == (2, 3, 1.0)
    assert arousal["invented"] == pytest.approx(1 / 3)
    assert arousal["time_mae"] == pytest.approx((0 + 1 + 0 + 0) / 4)
    assert hypopnea["time_mae"] == pytest.approx((0.5 + 0) / 2)
    assert none["agreement"] == none["stated"] == 1 and none["invented"] == 0


def test_trends_and_positions_by_hand():
    records = [
        {**EMPTY, "measurements": [measurement("heart_rate_trend", 8.0, "ECG", (3.0, 12.0))]},
        {**EMPTY, "measurements": [measurement("position", "supine", "POS", (0.0, 30.0))]},
    ]
    heart = grade(["Heart rate rises by 10 bpm from 5 to 12 s."], records[:1], "heart")
    rise = heart["features"]["heart_rate_rise"]
    assert (rise["mae"], rise["time_mae"], rise["stated"]) == (2, 1, 1)
    place = grade(["The patient stays prone."], records[1:], "position_muscle")
    assert place["features"]["position"]["agreement"] == 0


def test_texts_and_records_belong_together():
    with pytest.raises(ValueError, match="2 texts for 1 records"):
        grade(["", ""], [EMPTY], "brain")


def test_the_command_prints_a_table_and_says_by_its_status_what_it_found(
    corpus_folder, capsys, monkeypatch
):
    from sleeplm_jax.cli import main

    command = ["captions", "check", str(corpus_folder), "--samples", "12"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "heart rate mean" in said and "100 %" in said
    stated, agreed = re.search(r"([\d,]+) of ([\d,]+) statements", said).groups()
    assert stated == agreed
    monkeypatch.setattr(
        check, "render",
        lambda *arguments: (text := render(*arguments)) and text.replace("heart rate", "airflow"),
    )
    assert main(command) == 1
    findings = [line for line in capsys.readouterr().out.splitlines() if " sample " in line]
    assert findings and all("is lost" in f or "is added" in f or "read" in f for f in findings)
    assert main([*command[:3], "--samples", "0"]) == 2
    assert "--samples" in capsys.readouterr().err
