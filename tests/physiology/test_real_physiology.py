"""Measured on real recordings, read in place; independent figures beside ours."""

import numpy as np
import pytest
from scipy import signal

from sleeplm_jax.physiology import heart
from sleeplm_jax.physiology.measure import measure_night
from sleeplm_jax.recordings.night import Trace

prepare = pytest.importorskip("sleeplm_jax.recordings.prepare")


def values(records, feature, channel):
    return np.array(
        [
            m["value"]
            for r in records
            for m in r["measurements"]
            if (m["feature"], m["channel"]) == (feature, channel)
        ]
    )


@pytest.fixture(scope="module")
def clinical(psg):
    path = psg / "rsleep_nox" / "subject1.edf"
    if not path.exists():
        pytest.skip(f"{path.name} is not there")
    night = prepare.prepare_night(path)
    return night, measure_night(night)


def test_ecg_and_the_recorders_own_heart_rate_agree(clinical):
    night, records = clinical
    ours = values(records, "heart_rate_mean", "ECG")
    theirs = np.nanmean(heart.curve_from_channel(night.traces["HR"], 4), axis=1)
    assert len(ours) == 4
    assert ours == pytest.approx(theirs, abs=5)  # two sensors: ECG and the pulse oximeter


def test_the_three_breathing_sensors_agree(clinical):
    _, records = clinical
    rates = np.array([values(records, "respiratory_rate", c) for c in ("THX", "ABD", "AF")])
    assert rates.shape == (3, 4)
    assert np.ptp(rates, axis=0).max() < 1.5
    assert ((rates > 10) & (rates < 24)).all()


def test_breathing_rate_agrees_with_the_spectrums_peak(clinical):
    night, records = clinical
    trace = night.traces["THX"]
    frequencies, density = signal.periodogram(trace.values, trace.rate, detrend="linear")
    inside = (frequencies > 0.1) & (frequencies < 0.7)
    peak = 60 * frequencies[inside][density[inside].argmax()]
    assert np.mean(values(records, "respiratory_rate", "THX")) == pytest.approx(peak, abs=1.5)


def test_deep_sleep_has_more_delta_than_wake_and_n2_more_sigma_than_n3(psg):
    path = psg / "ucddb_eeg" / "ucddb018_eeg.edf"
    if not path.exists():
        pytest.skip(f"{path.name} is not there")
    records = measure_night(prepare.prepare_night(path))

    def median(stage, feature):
        return np.median(values([r for r in records if r["stage"] == stage], feature, "C3"))

    assert median("N3", "delta_power") > median("N2", "delta_power") > median("R", "delta_power")
    assert median("N2", "sigma_power") > 2 * median("N3", "sigma_power")
    assert median("W", "beta_power") > 2 * median("N2", "beta_power")


def test_beats_of_slpdb_agree_with_its_annotations(psg):
    """60 s of slp41's ECG against PhysioNet's own beats of that night (counts, not rates)."""
    from edfio import read_edf

    path = psg / "slpdb_multimodal" / "slp41_60s.edf"
    beats = psg / "slpdb_annotations" / "slp41.ecg"
    if not (path.exists() and beats.exists()):
        pytest.skip("slp41 is not there")
    ecg = read_edf(path).get_signal("ECG")
    ours = heart.beat_times(Trace(ecg.data.astype(np.float32), ecg.sampling_frequency, "mV"))
    theirs = mit_annotation_times(beats, 250.0)
    theirs = theirs[(theirs > 1) & (theirs < 59)]
    nearest = np.abs(ours[:, None] - theirs).min(axis=0)
    assert len(theirs) > 40 and np.mean(nearest < 0.05) > 0.98


def mit_annotation_times(path, rate):
    """Times (s) of the beats of a WFDB annotation file in MIT format (its manual, annot(5))."""
    words = np.fromfile(path, "<u2").astype(int)
    now, times, i = 0, [], 0
    while i < len(words) and words[i]:
        kind, step = words[i] >> 10, words[i] & 1023
        i += 1
        if kind == 59:  # SKIP: four bytes, high half first
            now += (words[i] << 16) + words[i + 1]
            i += 2
        elif kind == 63:  # AUX: a string
            i += (step + 1) // 2
        elif kind in (60, 61, 62):  # NUM, SUB, CHN
            continue
        else:
            now += step
            if kind in (1, 2, 3, 5, 8, 9):  # normal, bundle branch, premature
                times.append(now / rate)
    return np.array(times)
