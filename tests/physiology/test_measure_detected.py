"""What detectors find, through `measure_night`: drawn waves, movements, breaths, falls per epoch.

Signals are drawn from formulas into pink noise; what is expected is what was drawn.
"""

import dataclasses

import numpy as np
import pytest

from sleeplm_jax.captions.record import stated, validate
from sleeplm_jax.config import ARTEFACTS, CANONICAL_CHANNELS, SignalSpec
from sleeplm_jax.physiology.measure import measure_night

from .nights import drawn_night, drawn_traces
from .waves import RATE, k_complex, pink, spindle, time, trace

EPOCHS, SECONDS = 30, 900  # belts are compared in 20 pieces and more
HOW_MANY = np.arange(EPOCHS) % 4  # of a thing in each epoch
SLOW = 16.0  # Hz of belts and flow


def at():
    """Times of HOW_MANY things in each epoch, 6 s apart and away from its borders."""
    return [30 * e + 6.0 * (k + 1) for e in range(EPOCHS) for k in range(HOW_MANY[e])]


def inside(t, first, last):
    """1 in the first to the last second of every third epoch, else 0."""
    return ((t // 30 % 3 == 1) & (t % 30 >= first) & (t % 30 < last)).astype(float)


def saccades(t):
    """Steps held against an amplifier's high-pass, to and fro, as in test_eye_movements."""
    from scipy import signal

    gaze = sum(
        120 * (-1) ** n / (1 + np.exp(-np.clip((t - begin) / 0.012, -50, 50)))
        for n, begin in enumerate(at())
    )
    return signal.lfilter(*signal.butter(1, 0.3, "highpass", fs=RATE), gaze)


def eyes(movement):
    return {
        "EOG-L": trace(movement + pink(SECONDS, 3, seed=1)),
        "EOG-R": trace(-0.95 * movement + pink(SECONDS, 3, seed=2)),
    }


def belts(degrees):
    """Breathing at 15 a minute; `degrees` of the thorax ahead, per sample or one for all."""
    t = time(SECONDS, SLOW)
    angle = 2 * np.pi * 0.25 * t
    rng = np.random.default_rng(0)
    return {
        name: trace(size * np.sin(angle + ahead) + 0.02 * rng.standard_normal(len(t)), SLOW)
        for name, size, ahead in (("THX", 1, np.radians(degrees)), ("ABD", 3, 0))
    }


def records(traces, **changes):
    night = drawn_night(EPOCHS, traces=traces)
    how = {
        channel: dataclasses.replace(found, **changes.get(channel.replace("-", "_"), {}))
        for channel, found in night.channels.items()
    }
    out = measure_night(dataclasses.replace(night, channels=how))
    for record in out:
        validate(record)
    return out


def column(measured, feature, channel):
    """The feature's value in each epoch, NaN where there is none."""
    out = np.full(len(measured), np.nan)
    for epoch, record in enumerate(measured):
        found = [m for m in record["measurements"]
                 if (m["feature"], m["channel"]) == (feature, channel)]
        assert len(found) <= 1
        if found:
            assert found[0]["interval"] == [0, 30]
            out[epoch] = found[0]["value"]
    return out


def stretches(measured, feature):
    return {
        epoch: [(m["value"], *m["interval"]) for m in record["measurements"]
                if m["feature"] == feature]
        for epoch, record in enumerate(measured)
        if any(m["feature"] == feature for m in record["measurements"])
    }


def features(measured):
    return {(m["feature"], m["channel"]) for record in measured for m in record["measurements"]}


@pytest.fixture(scope="module")
def brain():
    t = time(SECONDS)
    noise = {c: pink(SECONDS, 8, seed=n) for n, c in enumerate(("C3", "C4", "F3", "O1"))}
    trains = 60 * np.sin(2 * np.pi * t) * inside(t, 6, 18)  # 1 Hz, 120 µV peak to peak, 12 s
    return records({
        "C3": trace(noise["C3"] + sum(spindle(t, x, 1.2, 13.0, 60.0) for x in at())),
        "C4": trace(noise["C4"] + sum(k_complex(t, x) for x in at())),
        "F3": trace(noise["F3"] + trains),
        "O1": trace(noise["O1"] + 30 * np.sin(2 * np.pi * 10 * t) * inside(t, 5, 20)),
        **eyes(saccades(t)),
    })


def test_drawn_spindles_are_counted_in_their_epochs(brain):
    np.testing.assert_array_equal(column(brain, "spindle_count", "C3"), HOW_MANY)
    # Noise alone: YASA's thresholds are relative, one or two in 15 min slip through.
    assert column(brain, "spindle_count", "C4").sum() <= 3


def test_drawn_k_complexes_are_counted_in_their_epochs(brain):
    np.testing.assert_array_equal(column(brain, "k_complex_count", "C4"), HOW_MANY)
    assert column(brain, "k_complex_count", "C3").sum() == 0


def test_a_train_of_slow_waves_has_its_number_share_and_size(brain):
    trains = np.arange(EPOCHS) % 3 == 1
    count = column(brain, "slow_wave_count", "F3")
    # The first or last wave of a train is cut by the filter's flank, or joined by one of noise.
    assert np.abs(count[trains] - 12).max() <= 1 and count[~trains].sum() == 0
    np.testing.assert_allclose(column(brain, "slow_wave_share", "F3")[trains], 40, atol=5)
    size = column(brain, "slow_wave_amplitude", "F3")
    np.testing.assert_allclose(size[trains], 120, atol=12)  # a tenth: noise of 8 µV
    assert np.isnan(size[~trains]).all()  # no wave has no size


def test_an_alpha_rhythm_takes_the_share_it_was_drawn_with(brain):
    alpha = column(brain, "alpha_share", "O1")
    # 15 of 30 s; a window of 2 s at either end may count that holds half of it: 2 s, 6.7 %.
    np.testing.assert_allclose(alpha[np.arange(EPOCHS) % 3 == 1], 50, atol=7)
    assert np.median(alpha[np.arange(EPOCHS) % 3 != 1]) < 3


def test_an_eeg_is_searched_for_what_is_largest_there(brain):
    found = features(brain)
    assert {f for f, c in found if c == "O1"} == {"alpha_power", "alpha_share"}
    assert {f for f, c in found if c == "F3"} == {
        "delta_power", "k_complex_count", "slow_wave_count", "slow_wave_share",
        "slow_wave_amplitude",
    }
    assert {c for f, c in found if f == "spindle_count"} == {"C3", "C4"}
    assert "O2" not in brain[0]["missing"] and "F4" not in brain[0]["missing"]


def test_saccades_are_counted_and_are_neither_slow_nor_blinks(brain):
    np.testing.assert_array_equal(column(brain, "rapid_eye_movement_count", "EOG"), HOW_MANY)
    assert column(brain, "blink_count", "EOG").sum() == 0
    # A gaze that drifts back through the amplifier's high-pass is slow now and then.
    assert column(brain, "slow_eye_movement_share", "EOG").mean() < 3


def test_rolling_eyes_are_slow_for_as_long_as_they_roll():
    t = time(SECONDS)
    # Whole half waves of 0.4 Hz from extreme to extreme: 15 s are 12 of them.
    measured = records(eyes(60 * np.cos(2 * np.pi * 0.4 * t) * inside(t, 5, 20)))
    slow = column(measured, "slow_eye_movement_share", "EOG")
    # At the ends, where the drawn movement breaks off, a half wave is lost or a step is none.
    np.testing.assert_allclose(slow[np.arange(EPOCHS) % 3 == 1], 50, atol=10)
    assert slow[np.arange(EPOCHS) % 3 != 1].max() == 0


def test_blinks_are_counted():
    t = time(SECONDS)
    lids = sum(-150 * np.exp(-0.5 * ((t - x) / 0.07) ** 2) for x in at())
    measured = records(eyes(lids))
    np.testing.assert_array_equal(column(measured, "blink_count", "EOG"), HOW_MANY)


@pytest.mark.parametrize("lost", ["EOG-L", "EOG-R"])
def test_eye_movements_need_both_eogs(lost):
    t = time(SECONDS)
    traces = eyes(saccades(t))
    del traces[lost]
    assert not {f for f, c in features(records(traces)) if c == "EOG"}
    traces = eyes(saccades(t))
    values = traces[lost].values.copy()
    values[int(60 * RATE) : int(90 * RATE)] = np.nan
    traces[lost] = trace(values)
    rapid = column(records(traces), "rapid_eye_movement_count", "EOG")
    assert np.isnan(rapid[2]) and np.isfinite(np.delete(rapid, 2)).all()


def test_without_microvolts_nothing_that_has_a_size_is_looked_for():
    t = time(SECONDS)
    unknown = {"amplitude_unknown": True}
    measured = records(
        {"C3": trace(pink(SECONDS)), "O1": trace(pink(SECONDS)), **eyes(saccades(t))},
        C3=unknown, O1=unknown, EOG_R=unknown,
    )
    found = {f for f, _ in features(measured)}
    assert {"delta_power", "alpha_share", "slow_eye_movement_power"} <= found
    assert not {f for f in found if f.endswith("_count") or f.startswith("slow_wave")}
    assert "slow_eye_movement_share" not in found


def test_a_wave_that_reaches_into_an_artefact_is_not_counted():
    t = time(SECONDS)
    values = pink(SECONDS, 8) + sum(spindle(t, x, 1.2, 13.0, 60.0) for x in (59.9, 75.0, 105.0))
    night = drawn_night(EPOCHS, traces={"C3": trace(values)})
    bits = np.zeros((EPOCHS, len(CANONICAL_CHANNELS)), np.uint8)
    bits[2, CANONICAL_CHANNELS.index("C3")] = 1 << ARTEFACTS.index("movement")
    spoilt = measure_night(dataclasses.replace(night, artefacts=bits))
    before = column(measure_night(night), "spindle_count", "C3")
    after = column(spoilt, "spindle_count", "C3")
    assert (before[1], before[2], before[3]) == (1, 1, 1)
    assert after[1] == 0 and np.isnan(after[2]) and after[3] == 1
    assert "C3" in spoilt[2]["missing"]


@pytest.mark.parametrize("degrees", [0, 30, 60])
def test_the_phase_of_the_belts_is_measured(degrees):
    measured = records(belts(degrees))
    phase = column(measured, "belt_phase", "belts")
    np.testing.assert_allclose(phase, degrees, atol=4)  # as in test_thoracoabdominal
    assert not stretches(measured, "paradox")


def test_paradox_has_its_times_in_every_epoch_it_lies_in():
    t = time(SECONDS, SLOW)
    against = (t >= 612) & (t < 644)  # the eleventh to the fourteenth second of the 22nd epoch
    found = stretches(records(belts(np.where(against, 180, 10))), "paradox")
    assert list(found) == [20, 21] and all(len(v) == 1 for v in found.values())
    (degrees, a, b), (later, c, d) = found[20][0], found[21][0]
    assert degrees == pytest.approx(180, abs=15) and later == pytest.approx(180, abs=15)
    # To a breath: the phase of a breath of 4 s at a border is between the two.
    assert (b, c) == (30, 0) and a == pytest.approx(12, abs=4) and d == pytest.approx(14, abs=4)


def test_an_inverted_or_unrelated_belt_says_nothing_of_phase():
    rng = np.random.default_rng(0)
    noise = {**belts(0), "ABD": trace(rng.standard_normal(int(SECONDS * SLOW)), SLOW)}
    for traces in (belts(180), noise):
        assert not {f for f, c in features(records(traces)) if c == "belts"}
    without = belts(0)
    del without["THX"]
    assert not {f for f, c in features(records(without)) if c == "belts"}


def flow(shape, every=4.0):
    """Inspiration of 1.6 s by `shape`, expiration as long, a pause; belts hold the volume."""
    t = time(SECONDS, SLOW)
    x = t % every
    inward = np.where(x < 1.6, shape(np.clip(x / 1.6, 0, 1)), 0)
    out = np.where((x > 1.7) & (x < 3.3), -np.sin(np.pi * np.clip((x - 1.7) / 1.6, 0, 1)), 0)
    out *= -inward.sum() / out.sum()
    volume = np.cumsum(inward + out) / SLOW
    belt = trace(volume + 1e-3 * np.random.default_rng(0).standard_normal(len(t)), SLOW)
    moving = inward + out
    return {"AF": trace(np.sign(moving) * moving**2, SLOW), "THX": belt, "ABD": belt}


@pytest.mark.parametrize(
    ("shape", "flatness"),
    [(lambda x: np.sin(np.pi * x), 0.72),
     (lambda x: np.clip(6 * np.minimum(x, 1 - x), 0, 1), 0.89)],
)
def test_flatness_of_nasal_pressure_and_of_nothing_else(shape, flatness):
    """Mean over peak above a fifth of the peak, by integration of the shape."""
    x = shape(np.linspace(0, 1, 10_001))
    assert x[x >= 0.2].mean() == pytest.approx(flatness, abs=0.01)
    traces, nasal = flow(shape), {"transducer": "nasal_pressure"}
    measured = column(records(traces, AF=nasal), "flow_flatness", "AF")
    np.testing.assert_allclose(measured, flatness, atol=0.04)  # 16 Hz: 26 samples a breath
    inverted = {**traces, "AF": trace(-traces["AF"].values, SLOW)}  # known by the belts
    np.testing.assert_allclose(
        column(records(inverted, AF=nasal), "flow_flatness", "AF"), flatness, atol=0.04
    )
    for other in ({"transducer": "thermal"}, {}):
        assert ("flow_flatness", "AF") not in features(records(traces, AF=other))
    alone = {"AF": traces["AF"]}  # nothing tells which way inspiration points
    assert ("flow_flatness", "AF") not in features(records(alone, AF=nasal))


def test_falls_of_saturation_are_told_by_their_part_in_the_epoch():
    t = np.arange(SECONDS)
    fall = [(70, 80, 90, 6), (204, 216, 230, 6), (400, 402, 410, 2)]  # begin, nadir, end, points
    values = np.full(SECONDS, 96.0)
    for begin, nadir, end, points in fall:
        values -= np.interp(t, (begin, nadir, end), (0, points, 0)).round()
    found = stretches(records({"SpO2": trace(values, 1.0, "%")}), "spo2_drop")
    # 2 points are no desaturation; of the second, 3 points fall in either epoch.
    assert set(found) == {2, 6, 7}
    value, a, b = found[2][0]
    assert value == 6 and a == pytest.approx(10, abs=1) and b == pytest.approx(20, abs=1)
    (first, _, end), (second, start, nadir) = found[6][0], found[7][0]
    assert (end, start) == (30, 0) and nadir == pytest.approx(6, abs=1)
    assert first == pytest.approx(3, abs=1) and first + second == 6


def test_further_eegs_are_missing_where_they_are_an_input_or_lost():
    traces = drawn_traces(3) | {"F3": trace(np.full(int(90 * RATE), 5.0))}
    measured = measure_night(drawn_night(3, traces=traces))
    assert all(record["missing"] == ["F3"] for record in measured)
    night = drawn_night(3)
    spec = SignalSpec(channels=(*SignalSpec().channels, "O2"))
    wide = dataclasses.replace(
        night, spec=spec, mask=np.concatenate([night.mask, np.zeros((3, 1), bool)], axis=1)
    )
    assert all(record["missing"] == ["O2"] for record in measure_night(wide))


def test_what_is_none_is_said_once_and_a_zero_beside_others_is_not(brain):
    spec = SignalSpec(channels=(*SignalSpec().channels, "F3", "O1"))
    quiet = stated(brain[4], "brain", spec)["channels"]
    assert HOW_MANY[4] == 0 and quiet["C3"]["eeg_waves"] == "none"
    assert not {"spindle_count", "k_complex_count", "slow_wave_count"} & quiet["C3"].keys()
    assert quiet["EOG"] == {"eye_movements": "none"}
    busy = stated(brain[3], "brain", spec)["channels"]
    assert busy["C3"]["spindle_count"] == 3 and "k_complex_count" not in busy["C3"]
    assert busy["EOG"] == {"rapid_eye_movement_count": 3}
    assert "slow_wave_amplitude" not in quiet["F3"]  # microvolts, which no input shows
    assert stated(brain[4], "brain", None)["channels"]["F3"]["slow_wave_amplitude"] in (
        110, 120, 130,
    )
