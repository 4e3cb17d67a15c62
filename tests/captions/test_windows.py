"""Windows longer than an epoch: hypnograms whose cycles follow by hand, and real scorings."""

import dataclasses
import json
import re

import numpy as np
import pytest

from sleeplm_jax.captions.cycles import sleep_cycles
from sleeplm_jax.captions.night import say_window
from sleeplm_jax.captions.record import stated
from sleeplm_jax.captions.windows import (
    NO_TRACE,
    WAKE_ONLY,
    course_of,
    grounded_window,
    measure_window,
    validate_window,
    windows_of,
)
from sleeplm_jax.config import MOVEMENT, UNSCORED
from sleeplm_jax.corpus.nightfile import read_night, write_night
from sleeplm_jax.errors import CorpusError
from sleeplm_jax.physiology.measure import measure_night
from sleeplm_jax.physiology.statistics import night_statistics
from sleeplm_jax.recordings.night import Event, Provenance
from sleeplm_jax.recordings.scoring import read_scoring
from tests.physiology.nights import drawn_night, drawn_traces
from tests.physiology.test_heart_measures import drawn_ecg

W, N1, N2, N3, R = range(5)


def hypnogram(*runs):
    """int8 [E] from (stage, minutes) runs."""
    return np.concatenate([np.full(int(2 * m), stage, np.int8) for stage, m in runs])


def epoch_record(**values):
    """A record whose measurements are `values`; `position` takes a word."""
    channel = {"heart": "ECG", "spo2": "SpO2", "posit": "POS"}
    return {
        "stage": None, "events": [], "missing": [], "scored": [], "stand_ins": [],
        "measurements": [
            {"feature": f, "value": v, "unit": "", "channel": channel[f[:5]], "interval": [0, 30]}
            if f != "spo2_min" and f != "spo2_mean" else
            {"feature": f, "value": v, "unit": "%", "channel": "SpO2", "interval": [0, 30]}
            for f, v in values.items()
        ],
    }  # fmt: skip


def course(stages, events=(), records=None, **provenance):
    night = dataclasses.replace(
        drawn_night(epochs=2), stages=np.asarray(stages, np.int8), events=tuple(events), traces={},
        provenance=Provenance(**provenance), rules="AASM",
    )
    return course_of(night, [epoch_record()] * len(stages) if records is None else records)


def measured(found, kind="night", number=None):
    window = next(w for w in windows_of(found) if w.kind == kind and number in (None, w.number))
    record = measure_window(found, window)
    validate_window(record)
    return record


def values(record):
    return {m["feature"]: m["value"] for m in record["measurements"]}


def lacks(record):
    return {u["feature"]: u["why"] for u in record["unknown"]}


def minutes(cycles):
    return [(begin / 2, end / 2, complete) for begin, end, complete in cycles]


def test_two_cycles_and_a_rest():
    stages = hypnogram((W, 10), (N1, 5), (N2, 20), (R, 10), (N2, 40), (W, 5), (N2, 20), (R, 20),
                       (N2, 30), (W, 15))
    assert minutes(sleep_cycles(stages)) == [(10, 45, True), (45, 130, True), (130, 160, False)]


@pytest.mark.parametrize(
    ("between", "joined"),
    [((N2, 14.5), True), ((N2, 15), False), ((W, 60), True)],
    ids=["under 15 min of NREM", "15 min of NREM", "wake alone"],
)
def test_what_parts_two_rem_periods(between, joined):
    stages = hypnogram((N2, 60), (R, 10), between, (R, 10))
    assert len(sleep_cycles(stages)) == (1 if joined else 2)


def test_short_rem_ends_a_cycle_only_where_it_is_the_first():
    stages = hypnogram((N2, 60), (R, 1), (N2, 60), (R, 4.5), (N2, 60), (R, 5), (N2, 10))
    assert minutes(sleep_cycles(stages)) == [(0, 61, True), (61, 190.5, True)]


def test_rem_right_after_sleep_onset_ends_no_cycle():
    stages = hypnogram((W, 5), (N1, 3), (R, 10), (N2, 60), (R, 10))
    assert minutes(sleep_cycles(stages)) == [(18, 88, True)]


def test_no_sleep_no_cycle():
    assert sleep_cycles(hypnogram((W, 60))) == [] == sleep_cycles(np.array([], np.int8))


@pytest.mark.parametrize("seed", range(30))
def test_cycles_are_in_order_and_hold_rem_at_their_end(seed):
    rng = np.random.default_rng(seed)
    runs = [(int(rng.choice([W, N1, N2, N3, R, UNSCORED, MOVEMENT])), float(rng.integers(1, 40)))
            for _ in range(20)]
    stages = hypnogram(*runs)
    last = 0
    for begin, end, complete in sleep_cycles(stages):
        assert last <= begin < end <= len(stages) and end - begin >= 30
        assert (stages[end - 1] == R) if complete else (stages[end - 1] > 0)
        last = end


def test_a_night_in_numbers_by_hand():
    stages = hypnogram((W, 10), (N1, 5), (N2, 20), (W, 5), (N3, 20), (N2, 10), (R, 30), (W, 8))
    record = measured(course(stages, lights_off_s=0, lights_on_s=108 * 60))
    found = values(record)
    assert found["time_in_bed"] == 108 and found["total_sleep_time"] == 85
    assert found["sleep_onset_latency"] == 10 and found["wake_after_sleep_onset"] == 13
    assert found["n3_latency"] == 30 and found["rem_latency"] == 60
    assert found["n2_share"] == pytest.approx(100 * 30 / 85, abs=1e-3)
    assert found["awakenings"] == 2
    assert record["notes"] == []
    assert set(lacks(record)) >= {"ahi_4_percent", "odi_3_percent", "heart_rate", "spo2"}


def test_unknown_lights_are_noted_and_no_time_in_bed():
    record = measured(course(hypnogram((W, 10), (N2, 20)), lights_on_s=1800))
    assert record["notes"] == ["lights_off_unknown"]
    assert values(record)["scored_period"] == 30 and "time_in_bed" not in values(record)


def test_what_is_not_scored_is_unknown_and_never_zero():
    record = measured(course(hypnogram((W, 10), (N2, 20))))
    assert not {f for f in values(record) if "ahi" in f or "odi" in f or "index" in f}
    assert lacks(record)["rem_latency"] == "no REM sleep scored"
    unstaged = measured(course(np.full(20, UNSCORED, np.int8)))
    assert lacks(unstaged)["sleep"] == "the night is not staged" and not values(unstaged)
    asleep_never = lacks(measured(course(hypnogram((W, 10)))))
    assert asleep_never["wake_after_sleep_onset"] == "no sleep"
    flags = {"cohort_flags": ("sleep_wake_scoring_only",)}
    bare = measured(course(hypnogram((W, 10), (N2, 20)), **flags))
    assert lacks(bare)["n1_share"] == WAKE_ONLY and "n1_share" not in values(bare)


def test_scored_for_sleep_and_wake_only_has_no_stages_and_no_cycles():
    stages = hypnogram((W, 10), (N2, 60), (R, 20), (N2, 30))
    found = course(stages, cohort_flags=("sleep_wake_scoring_only",))
    assert {w.kind for w in windows_of(found)} == {"night", "five_minutes"}
    for window in windows_of(found):
        record = measure_window(found, window)
        assert not {f for f in values(record) if re.match(r"(n\d|rem)_", f)}
        assert not re.search(r"\d% (?:N|REM)|(?:N\d|REM) \d", say_window(
            record, np.random.default_rng(0)))
    assert values(measured(found, "five_minutes"))["wake_share"] == 100


@pytest.mark.parametrize(
    ("night", "counts"),
    [(1, (387, 107, 148, 73)), (2, (105, 50, 50, 33)), (3, (345, 318, 323, 298))],
)
def test_tutorial_nights_have_their_counts_under_every_rule(psg, night, counts):
    """The counts of docs/sleep_statistics.md, there taken from the XML by other means."""
    scoring = read_scoring(psg / "nsrr_xml" / f"learn-nsrr0{night}.xml", 1e5)
    drawn = dataclasses.replace(
        drawn_night(epochs=2), stages=scoring.stages, events=scoring.events, traces={},
        provenance=scoring.provenance, rules=scoring.rules,
    )
    record = measured(course_of(drawn, [epoch_record()] * len(scoring.stages)))
    rules = ("all_events", "3_percent", "3_percent_or_arousal", "4_percent")
    found = {m["feature"]: m for m in record["measurements"]}
    assert tuple(found[f"ahi_{rule}"]["count"] for rule in rules) == counts
    told = night_statistics(drawn)
    for rule in rules:
        assert found[f"ahi_{rule}"]["value"] == told["ahi"][rule]["value"]
    assert found["arousal_index_in_sleep"]["value"] == (
        told["indices"]["arousal_index_in_sleep"]["value"]
    )
    cycles = [w for w in windows_of(course_of(drawn, [epoch_record()] * len(scoring.stages)))
              if w.kind == "sleep_cycle"]
    rem = scoring.stages == R
    assert sum(rem[w.begin : w.end].sum() for w in cycles) == rem.sum()


@pytest.mark.parametrize("night", [1, 2, 3])
def test_five_minutes_share_out_the_scored_events(psg, night):
    """Every event of the XML is counted in one window; the XML is searched by hand."""
    file = psg / "nsrr_xml" / f"learn-nsrr0{night}.xml"
    scoring = read_scoring(file, 1e5)
    found = course(scoring.stages, scoring.events)
    counts = [
        values(measure_window(found, w)) for w in windows_of(found) if w.kind == "five_minutes"
    ]
    last = len(counts) * 300
    text = file.read_text()
    for name, feature in (("Hypopnea", "hypopnea_count"), ("Arousal", "arousal_count"),
                          ("SpO2 desaturation", "desaturation_count")):
        onsets = re.findall(rf"<Name>{name}[^<]*</Name>\s*<Start>([\d.]+)", text)
        wanted = sum(float(onset) < last for onset in onsets)
        assert wanted > 10 and sum(c[feature] for c in counts) == wanted, name


@pytest.mark.parametrize("night", [1, 2, 3])
def test_the_captions_of_the_epochs_hold_the_scored_events(psg, night):
    """Every event of the XML is stated, in its epochs and at its time; the XML is read by hand."""
    file = psg / "nsrr_xml" / f"learn-nsrr0{night}.xml"
    scoring = read_scoring(file, 1e5)
    drawn = dataclasses.replace(
        drawn_night(epochs=2), stages=scoring.stages, events=scoring.events, traces={},
        signals=np.zeros((len(scoring.stages), 1, 1)),
        mask=np.ones((len(scoring.stages), 10), bool), provenance=scoring.provenance,
    )
    told = [stated(record, "stage_event", None) for record in measure_night(drawn)]
    kinds = {"Hypopnea": "hypopnea", "Arousal": "arousal", "SpO2 desaturation": "desaturation",
             "Obstructive Apnea": "obstructive_apnea"}
    text = file.read_text()
    compared = 0
    for name, kind in kinds.items():
        wanted = set()
        for start, lasts in re.findall(
            rf"<Name>{name}[^<]*</Name>\s*<Start>([\d.]+)</Start>\s*<Duration>([\d.]+)", text
        ):
            begin, end = float(start), float(start) + float(lasts)
            parts = {}
            for epoch in range(int(begin // 30), int(np.ceil(end / 30))):
                a, b = max(begin - 30 * epoch, 0), min(end - 30 * epoch, 30)
                parts[epoch] = (b - a, round(a, 1), round(b, 1))
            longest = max(parts, key=lambda e: parts[e][0])
            for epoch, (length, a, b) in parts.items():
                if epoch < len(told) and end - begin >= 0.5 and (length >= 1 or epoch == longest):
                    wanted.add((epoch, a, b))
        found = {(epoch, a, b) for epoch, content in enumerate(told) if content
                 for k, a, b in content["events"] if k == kind}
        assert found == wanted, name
        compared += len(wanted)
    assert compared > 100


def test_a_real_night_has_the_stages_that_its_readme_counts(psg):
    """ucddb018: W 328, N1 58, N2 280, N3 137, R 19 epochs, by the folder's README."""
    scoring = read_scoring(psg / "ucddb_eeg" / "ucddb018_hypnogram.edf", 822 * 30.0)
    found = values(measured(course(scoring.stages)))
    asleep = 58 + 280 + 137 + 19
    assert found["total_sleep_time"] == asleep / 2
    for name, epochs in (("n1", 58), ("n2", 280), ("n3", 137), ("rem", 19)):
        assert found[f"{name}_share"] == pytest.approx(100 * epochs / asleep, abs=1e-3)


@pytest.mark.parametrize(
    ("lost", "words"),
    [(("ECG", "HR"), ("bpm", "Heart rate:", "heart rate is")), (("SpO2",), ("SpO2:", "points")),
     (("POS",), ("lies", "supine", "side"))],
)  # fmt: skip
def test_nothing_is_told_of_a_channel_that_is_not_there(lost, words):
    """Said with the channel, and not without it."""
    whole = drawn_traces(20)
    told = []
    for traces in (whole, {c: t for c, t in whole.items() if c not in lost}):
        night = drawn_night(20, traces=traces)
        found = course_of(night, measure_night(night))
        told.append(" ".join(
            say_window(measure_window(found, w), np.random.default_rng(seed))
            for w in windows_of(found) for seed in range(10)
        ))
    assert any(word in told[0] for word in words)
    assert not [word for word in words if word in told[1]]


def test_heart_rate_and_saturation_follow_the_records():
    """A line from 70 down to 50 bpm over 4 h and one dip of SpO2, half an hour not measured."""
    epochs = 480
    line = np.linspace(70, 50, epochs)
    records = [
        epoch_record(heart_rate_mean=float(v), heart_rate_min=float(v - 2),
                     heart_rate_max=float(v + 2), spo2_mean=95.0,
                     spo2_min=81.0 if i == 100 else 94.0)
        if not 200 <= i < 260 else epoch_record()
        for i, v in enumerate(line)
    ]  # fmt: skip
    record = measured(course(hypnogram((N2, 240)), records=records))
    found = {m["feature"]: m for m in record["measurements"] if not m["feature"].endswith("hour")}
    assert found["heart_rate_known"]["value"] == 87.5
    # The fitted line runs over all 480 epochs, the drawn one over the 479 steps between them.
    assert found["heart_rate_change"]["value"] == pytest.approx(-20 * 480 / 479, abs=1e-3)
    assert found["heart_rate_lowest"]["value"] == pytest.approx(48)
    assert found["heart_rate_lowest"]["interval"] == [479 * 30, 480 * 30]
    assert found["heart_rate_highest"]["interval"] == [0, 30]
    assert found["spo2_lowest"]["value"] == 81 and found["spo2_lowest"]["interval"] == [3000, 3030]
    assert found["spo2_change"]["value"] == pytest.approx(0, abs=1e-9)
    hours = [m for m in record["measurements"] if m["feature"] == "heart_rate_hour"]
    assert [m["interval"][0] for m in hours] == [0, 3600, 7200, 10800]
    assert hours[0]["value"] == pytest.approx(line[:120].mean(), abs=1e-3)
    five = measured(course(hypnogram((N2, 240)), records=records), "five_minutes")
    assert values(five)["heart_rate_mean"] == pytest.approx(line[:10].mean(), abs=1e-3)


def test_heart_rate_variability_of_five_minutes_of_a_modulated_pulse():
    """LF 40 ms and HF 20 ms of amplitude: 800 and 200 ms²; nothing is told without an ECG."""
    times = [0.4]
    while times[-1] < 599:
        wave = 0.04 * np.sin(2 * np.pi * 0.1 * times[-1]) + 0.02 * np.sin(
            2 * np.pi * 0.25 * times[-1])
        times.append(times[-1] + 0.9 + wave)
    traces = drawn_traces(20) | {"ECG": drawn_ecg(times, 600)}
    for lost in ((), ("ECG",)):
        night = drawn_night(20, traces={c: t for c, t in traces.items() if c not in lost})
        record = measured(course_of(night, measure_night(night)), "five_minutes")
        if lost:
            assert lacks(record)["heart_rate_variability"] == "no ECG"
            assert "lf_power" not in values(record)
            continue
        assert values(record)["lf_power"] == pytest.approx(800, rel=0.1)
        assert values(record)["hf_power"] == pytest.approx(200, rel=0.15)
        assert "ms²" in say_window(record, np.random.default_rng(0))
        kept = values(grounded_window(record, ("C3", "HR")))
        assert not {"lf_power", "hf_power"} & kept.keys()


def test_a_curve_seldom_measured_is_not_told():
    records = [epoch_record(heart_rate_mean=60.0) if i < 4 else epoch_record() for i in range(10)]
    record = measured(course(hypnogram((N2, 5)), records=records), "five_minutes")
    assert lacks(record)["heart_rate"] == "usable in less than half of the window"


def test_position_shares_are_of_sleep_where_the_position_is_known():
    stages = hypnogram((W, 5), (N2, 5))
    words = ["left"] * 10 + ["supine"] * 6 + ["right"] * 2
    records = [epoch_record(position=word) for word in words] + [epoch_record()] * 2
    shares = {
        m["position"]: (m["value"], m["unit"])
        for m in measured(course(stages, records=records))["measurements"]
        if m["feature"] == "position_share"
    }
    assert shares == {"supine": (75.0, "% of sleep of known position"),
                      "right": (25.0, "% of sleep of known position")}


def test_events_are_counted_where_they_begin():
    events = [
        Event("hypopnea", 295.0, 20.0), Event("obstructive_apnea", 310.0, 12.0),
        Event("other", 320.0, 12.0, text="Apnea"), Event("arousal", 599.9, 3.0),
        Event("arousal", 600.0, 3.0),
    ]  # fmt: skip
    found = course(hypnogram((N2, 15)), events)
    fives = [w for w in windows_of(found) if w.kind == "five_minutes"]
    counts = [values(measure_window(found, w)) for w in fives]
    assert [c["hypopnea_count"] for c in counts] == [1, 0, 0]
    assert [c["apnea_count"] for c in counts] == [0, 2, 0]
    assert [c["arousal_count"] for c in counts] == [0, 1, 1]
    assert all("desaturation_count" not in c for c in counts)


def test_a_night_file_tells_what_the_night_told(tmp_path):
    night = drawn_night(epochs=12, stages=[0] * 2 + [2] * 10,
                        events=[Event("hypopnea", 100.0, 15.0), Event("arousal", 114.0, 4.0)])
    records = [epoch_record(heart_rate_mean=60.0, spo2_mean=95.0, spo2_min=93.0)] * 12
    write_night(night, records, tmp_path / "n.npz")
    direct = measured(course_of(night, records))
    again = measured(course_of(read_night(tmp_path / "n.npz")))
    assert again["measurements"] == [
        m for m in direct["measurements"] if m["feature"] not in ("ahi_3_percent", "ahi_4_percent",
                                                                  "ahi_3_percent_or_arousal")
    ]  # fmt: skip
    # The trace that these depths were measured in stays with the recording.
    assert {m["basis"] for m in direct["measurements"] if m["feature"] == "ahi_3_percent"} == (
        {"measured"}
    )
    assert lacks(again)["ahi_3_percent"] == NO_TRACE


def test_grounding_drops_what_the_input_cannot_show():
    events = [Event("hypopnea", 60.0, 15.0), Event("desaturation", 80.0, 9.0, depth=4.0),
              Event("arousal", 75.0, 4.0)]
    records = [epoch_record(heart_rate_mean=60.0, spo2_mean=95.0, spo2_min=93.0,
                            position="left")] * 40
    record = measured(course(hypnogram((N2, 20)), events, records))
    everything = set(values(record))
    assert {"ahi_4_percent", "odi_4_percent", "heart_rate_mean", "position_share"} <= everything
    cortex = grounded_window(record, ("C3", "C4"))
    assert not {f for f in values(cortex) if f.startswith(("ahi", "odi", "heart", "spo2", "pos"))}
    assert "arousal_index_in_sleep" in values(cortex) and "n2_share" in values(cortex)
    flow = set(values(grounded_window(record, ("AF", "ECG"))))
    assert "ahi_all_events" in flow and not flow & {"ahi_3_percent", "arousal_index_in_sleep"}
    assert values(grounded_window(record, ("POS",))) == {"position_share": 100.0}
    assert not grounded_window(record, ("C3",))["unknown"] or all(
        "plm" not in u["feature"] for u in grounded_window(record, ("C3",))["unknown"]
    )


def test_records_must_be_one_an_epoch():
    with pytest.raises(CorpusError, match="3 measured records for 2 epochs"):
        course_of(drawn_night(epochs=2), [epoch_record()] * 3)


def test_a_wrong_record_is_refused():
    record = json.loads(json.dumps(measured(course(hypnogram((N2, 20))))))
    record["measurements"][0]["unit"] = "furlongs"
    with pytest.raises(CorpusError, match="furlongs"):
        validate_window(record)
