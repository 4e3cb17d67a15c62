"""Trimming: where it cuts, and that what is kept is what the whole recording has there."""

import dataclasses

import numpy as np
import pytest

from sleeplm_jax.config import MOVEMENT, UNSCORED, SignalSpec
from sleeplm_jax.errors import UserError
from sleeplm_jax.physiology.statistics import night_statistics
from sleeplm_jax.recordings import prepare
from sleeplm_jax.recordings.night import Event, Provenance, Scoring, Trace
from sleeplm_jax.recordings.trim import FILTER_MARGIN_S, Trim, find_span
from tests.recordings.edf_files import signal, write

NONE, LIGHTS, SLEEP = Trim("none"), Trim("lights"), Trim("sleep", 1)
EPOCHS = 40  # 20 min


def scoring(stages, off=None, on=None, events=(), **more):
    about = Provenance(lights_off_s=off, lights_on_s=on, **more)
    return Scoring(np.asarray(stages, np.int8), tuple(events), "tests", provenance=about)


def hypnogram(*runs):
    return np.concatenate([np.full(count, stage, np.int8) for stage, count in runs])


STAGES = hypnogram((0, 10), (1, 2), (2, 16), (MOVEMENT, 1), (4, 3), (0, 8))  # sleep: 300 to 960 s


# --- where it cuts ------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "trim, off, on, expected",
    [
        (NONE, 95, 1100, (0, 1200)),
        (LIGHTS, 95, 1100, (90, 1110)),  # outward to whole epochs
        (LIGHTS, 90, 1110, (90, 1110)),
        (LIGHTS, None, 1100, (0, 1110)),
        (LIGHTS, 95, None, (90, 1200)),
        (LIGHTS, None, None, (0, 1200)),
        (Trim("lights", 2), 300, 900, (180, 1020)),
        (Trim("lights", 30), 300, 900, (0, 1200)),  # never beyond the recording
        (LIGHTS, -20, 1210, (0, 1200)),  # a clock beside the recording's
        (SLEEP, 95, 1100, (240, 1020)),
        (Trim("sleep"), None, None, (0, 1200)),
        (Trim("sleep", 0), None, None, (300, 960)),
    ],
)
def test_where_a_recording_is_cut(trim, off, on, expected):
    span = find_span(trim, scoring(STAGES, off, on), 1200.0)
    assert (span.start, span.end) == expected
    assert (span.record["start_s"], span.record["end_s"]) == expected
    assert span.record["cut_before_s"] + span.seconds + span.record["cut_after_s"] == 1200


def test_cuts_lie_on_epochs_and_on_samples_of_another_length():
    """Samples of 300 s and epochs of 30 s: the cut is on both grids."""
    found = find_span(LIGHTS, scoring(STAGES, 95, 1100), 1200.0, SignalSpec(seconds=300))
    assert (found.start, found.end) == (0, 1200)
    found = find_span(LIGHTS, scoring(STAGES, 330, 880), 1200.0, SignalSpec(seconds=300))
    assert (found.start, found.end) == (300, 900)
    found = find_span(LIGHTS, scoring(STAGES, 95, 1100), 1200.0, SignalSpec(seconds=20))
    assert (found.start, found.end) == (60, 1140)


def test_the_record_says_why_nothing_was_cut():
    for scored in (scoring(STAGES), None):
        span = find_span(LIGHTS, scored, 1200.0)
        assert span.record["why_not"] == "lights off and on unknown"
    found = find_span(SLEEP, scoring(np.zeros(40)), 1200.0)
    assert found.record["why_not"] == "no sleep scored" and found.seconds == 1200
    assert any(flag.startswith("untrimmed") for flag in found.flags)


@pytest.mark.parametrize("off, on", [(500, 400), (100, 90_000), (float("nan"), 900), (-9000, 900)])
def test_lights_that_cannot_be_are_no_lights(off, on):
    span = find_span(LIGHTS, scoring(STAGES, off, on), 1200.0)
    assert span.seconds == 1200 and "lights_implausible" in span.flags[0]
    about = span.scoring(scoring(STAGES, off, on)).provenance
    assert about.lights_off_s is None and about.lights_on_s is None


def test_lights_that_cut_sleep_away_are_flagged():
    span = find_span(LIGHTS, scoring(STAGES, 330, 900), 1200.0)
    assert span.flags == ("sleep_cut: 3 epochs of sleep lie outside lights off and on",)


def test_a_day_of_wake_around_sleep_is_flagged():
    """Sleep-EDF: 20 hours with 8 of sleep; what --trim sleep leaves is not flagged."""
    day = hypnogram((0, 900), (2, 960), (0, 300), (UNSCORED, 240))
    long = scoring(day)
    flags = find_span(LIGHTS, long, 30.0 * len(day)).flags
    assert flags == ("long_awake: 12.0 h lie outside sleep; --trim sleep leaves most of it out",)
    span = find_span(Trim("sleep"), long, 30.0 * len(day))
    assert span.flags == () and span.seconds == 9 * 3600
    assert not find_span(LIGHTS, scoring(STAGES), 1200.0).flags


def test_real_hypnogram_of_twenty_hours(psg):
    from sleeplm_jax.recordings.scoring import read_scoring

    path = psg / "edfio_sleepedf_short" / "SC4001EC-Hypnogram.edf"
    scored = read_scoring(path, None)
    length = 30.0 * len(scored.stages)
    assert length > 20 * 3600
    asleep = np.flatnonzero(scored.stages > 0)
    span = find_span(Trim("sleep"), scored, length)
    assert span.start == 30 * asleep[0] - 1800 and span.end == 30 * (asleep[-1] + 1) + 1800
    kept = span.scoring(scored).stages
    assert (kept > 0).sum() == len(asleep) and len(kept) == asleep[-1] - asleep[0] + 1 + 120
    assert any("--trim sleep" in flag for flag in find_span(LIGHTS, scored, length).flags)


def test_wrong_settings_are_refused():
    with pytest.raises(UserError, match="choose from none, lights, sleep"):
        Trim("night")
    for margin in (-1, float("nan"), float("inf")):
        with pytest.raises(UserError, match="give minutes"):
            Trim("sleep", margin)


# --- what is kept -------------------------------------------------------------------------------
def test_events_lights_and_clock_count_from_the_cut():
    events = [
        Event("hypopnea", 100, 20), Event("hypopnea", 230, 20), Event("arousal", 250.5, 4.25),
        Event("obstructive_apnea", 1015, 20), Event("arousal", 1020, 3), Event("arousal", 1100, 3),
        Event("desaturation", 600, 0, depth=4.0, value=90.0, timed=False),
    ]
    full = scoring(STAGES, 200, 1130, events, start_clock="23:57:30", scorer="2")
    span = find_span(SLEEP, full, 1200.0)  # 240 to 1020 s
    kept = span.scoring(full)
    assert [(e.kind, e.onset, e.duration) for e in kept.events] == [
        ("hypopnea", 0, 10), ("arousal", 10.5, 4.25), ("obstructive_apnea", 775, 5),
        ("desaturation", 360, 0),
    ]
    assert kept.events[-1].depth == 4.0 and not kept.events[-1].timed
    assert span.record["events_cut"] == 3
    np.testing.assert_array_equal(kept.stages, STAGES[8:34])
    about = kept.provenance
    assert (about.lights_off_s, about.lights_on_s) == (-40, 890)
    assert (about.start_clock, about.scorer) == ("00:01:30", "2")


def test_without_a_cut_everything_is_as_it_was():
    events = (Event("hypopnea", 100.1, 20.7), Event("arousal", 1190, 10.0))
    full = scoring(STAGES, 95, 1100, events, start_clock="22:00:00")
    kept = find_span(NONE, full, 1207.5).scoring(full)
    assert kept.events == events and kept.provenance == full.provenance
    np.testing.assert_array_equal(kept.stages, full.stages)


@pytest.mark.parametrize("rate", [1.0, 10.0, 99.97, 256.0])
def test_traces_are_cut_at_their_own_rates(rate):
    """A ramp tells the time of each sample, to half of one."""
    values = (np.arange(int(1200 * rate)) / rate).astype(np.float32)
    trace = Trace(values, rate, "s", railed=np.arange(1200, dtype=np.float32))
    span = find_span(SLEEP, scoring(STAGES), 1200.0)  # 240 to 1020 s
    around = span.around(trace)
    kept = span.cut(around)
    assert not np.shares_memory(around.values, values)  # the whole can be forgotten
    assert np.shares_memory(around.values, kept.values)
    assert kept.values[0] == pytest.approx(240, abs=0.5 / rate + 1e-3)
    assert len(kept.values) == pytest.approx(780 * rate, abs=1)
    assert around.values[0] == pytest.approx(240 - FILTER_MARGIN_S, abs=0.5 / rate + 1e-3)
    assert around.values[-1] == pytest.approx(1140, abs=1.5 / rate + 1e-3)
    assert kept.railed.tolist() == list(range(240, 1020))
    whole = find_span(NONE, None, 1200.0)
    assert whole.around(trace) is trace and len(whole.cut(trace).values) == len(values)
    near = find_span(Trim("sleep", 4), scoring(STAGES), 1200.0)  # from 60 s: less than the margin
    assert near.around(trace).values[0] == 0 and near.lead == 60


def recording(path, seconds=1200):
    """Simulated: EEG, chin and breathing with slow drifts, an artefact before and after the cut."""
    rng = np.random.default_rng(11)

    def drawn(rate, size):
        time = np.arange(seconds * rate) / rate
        slow = np.sin(2 * np.pi * time / 700) + np.sin(2 * np.pi * 0.25 * time)
        values = size * (rng.standard_normal(seconds * rate) + slow)
        values[: 200 * rate] *= 8  # awake and moving
        values[1050 * rate :] *= 8
        return values

    signals = [
        signal("C3-M2", drawn(100, 20)), signal("EMG Chin", drawn(200, 5), 200),
        signal("Thorax", drawn(10, 1), 10, unit=""),
        signal("SpO2", np.repeat(np.arange(seconds // 4) % 7 + 90.0, 4), 1, unit="%"),
        signal("Body", np.repeat(np.arange(seconds // 60) % 4, 60), 1, unit=""),
    ]  # fmt: skip
    return write(path, signals)


CHANNELS = SignalSpec(channels=("C3", "EMG", "THX", "SpO2"))


@pytest.fixture
def night_of(tmp_path, monkeypatch):
    """prepare_night of the drawn recording with the drawn scoring, trimmed as asked."""
    path = recording(tmp_path / "night.edf")
    full = scoring(STAGES, 310, 1000, [Event("hypopnea", 500, 20)], start_clock="22:30:00")
    monkeypatch.setattr(prepare, "read_scoring", lambda *_, **__: full)
    return lambda trim: prepare.prepare_night(path, scoring=path, spec=CHANNELS, trim=trim)


def test_kept_epochs_are_those_of_the_whole_recording(night_of):
    """But for the scale, which is the kept part's own: physical values agree.

    Tolerance: 0.01 % of the channel's scale (measured: 0.0003 %). What is left: the filters' edge
    two minutes away, and float32. Samples that either clips at 6 units are left out.
    """
    whole, kept = night_of(NONE), night_of(SLEEP)
    first, last = 8, 34
    assert kept.signals.shape == (26, 4, 1920) and whole.signals.shape[0] == EPOCHS
    np.testing.assert_array_equal(kept.stages, whole.stages[first:last])
    np.testing.assert_array_equal(kept.mask, whole.mask[first:last])
    for c, name in enumerate(CHANNELS.channels):
        inside = (np.abs(kept.signals[:, c]) < 5.9) & (np.abs(whole.signals[first:last, c]) < 5.9)
        assert inside.mean() > 0.98, name
        a = kept.signals[:, c].astype(float) * kept.scale[c] + kept.offset[c]
        b = whole.signals[first:last, c].astype(float) * whole.scale[c] + whole.offset[c]
        assert np.abs(a - b)[inside].max() < 1e-4 * kept.scale[c], name
        trace, uncut = kept.traces[name], whole.traces[name]
        begin, end = round(240 * trace.rate), round(1020 * trace.rate)
        np.testing.assert_array_equal(trace.values, uncut.values[begin:end])
    # The loud hours outside no longer stretch the scale.
    assert whole.scale[0] > 1.2 * kept.scale[0]


def test_a_trimmed_night_says_so_and_keeps_its_statistics(night_of):
    whole, kept = night_of(NONE), night_of(SLEEP)
    assert whole.extra["trim"]["mode"] == "none" and whole.extra["duration_s"] == 1200
    record = kept.extra["trim"]
    assert (record["mode"], record["start_s"], record["end_s"]) == ("sleep", 240, 1020)
    assert record["recorded_s"] == 1200 and record["margin_minutes"] == 1
    assert kept.extra["duration_s"] == 780 and kept.extra["start_clock"] == "22:34:00"
    assert kept.events[0].onset == 260 and whole.events[0].onset == 500
    assert (kept.provenance.lights_off_s, kept.provenance.lights_on_s) == (70, 760)
    ours, theirs = (night_statistics(night) for night in (kept, whole))
    assert ours["sleep"]["measures"] == theirs["sleep"]["measures"]
    assert ours["ahi"] == theirs["ahi"]


def test_lights_outside_what_is_kept_still_bound_the_time_in_bed(tmp_path, monkeypatch):
    """SOL and WASO are those of the whole night when only sleep and a minute are kept."""
    path = recording(tmp_path / "night.edf")
    full = scoring(STAGES, 60, 1170)
    monkeypatch.setattr(prepare, "read_scoring", lambda *_, **__: full)
    found = {}
    for trim in (NONE, LIGHTS, SLEEP):
        night = prepare.prepare_night(path, scoring=path, spec=CHANNELS, trim=trim)
        measures = night_statistics(night)["sleep"]["measures"]
        found[trim.mode] = {
            name: measures[name]["value"] for name in ("TRT", "SOL", "WASO", "TST", "SE", "SPT")
        }
    assert found["none"] == found["lights"] == found["sleep"]
    assert found["none"]["SOL"] == 4 and found["none"]["TRT"] == 18.5


@pytest.mark.parametrize("evening", [(), ((2.0, "Lights on"),)])
def test_lights_marked_in_a_recording_trim_it(tmp_path, evening):
    """The whole road, from EDF+ annotations."""
    from edfio import EdfAnnotation

    from tests.recordings.edf_files import c3

    words = {0: "W", 1: "N1", 2: "N2", 4: "R", MOVEMENT: "W"}
    notes = [EdfAnnotation(30 * i, 30, f"Sleep stage {words[s]}") for i, s in enumerate(STAGES)]
    marks = (*evening, (95.0, "Lights off"), (1100.0, "Lights on"))
    notes += [EdfAnnotation(at, None, text) for at, text in marks]
    path = write(tmp_path / "night.edf", [c3(1200)], annotations=notes)
    night = prepare.prepare_night(path)
    assert (night.extra["trim"]["start_s"], night.extra["trim"]["end_s"]) == (90, 1110)
    assert len(night.stages) == len(night.signals) == 34
    assert (night.provenance.lights_off_s, night.provenance.lights_on_s) == (5, 1010)
    measures = night_statistics(night)["sleep"]["measures"]
    assert measures["TRT"]["value"] == 16.75
    assert measures["SOL"]["value"] == pytest.approx((300 - 95) / 60, abs=1e-4)


def test_lights_on_of_the_evening_are_not_the_mornings(tmp_path):
    from edfio import EdfAnnotation

    from tests.recordings.edf_files import c3

    notes = [EdfAnnotation(30 * i, 30, "Sleep stage N2") for i in range(40)]
    notes += [EdfAnnotation(5, None, "Lights on"), EdfAnnotation(65, None, "Lights off")]
    night = prepare.prepare_night(write(tmp_path / "night.edf", [c3(1200)], annotations=notes))
    assert (night.provenance.lights_off_s, night.provenance.lights_on_s) == (5, None)
    assert (night.extra["trim"]["start_s"], night.extra["trim"]["end_s"]) == (60, 1200)
    assert night.extra["trim"]["why_not"] == "lights on unknown"


def test_lights_is_the_default(night_of):
    kept = night_of(Trim())
    assert kept.extra["trim"]["mode"] == "lights"
    assert (kept.extra["trim"]["start_s"], kept.extra["trim"]["end_s"]) == (300, 1020)
    assert dataclasses.asdict(Trim()) == {"mode": "lights", "margin_minutes": None}
