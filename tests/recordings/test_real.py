"""Real recordings, read in place (see the psg fixture); skipped where they are absent."""

import re

import numpy as np
import pytest

from sleeplm_jax.config import UNSCORED
from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings.inspection import inspect_recording
from sleeplm_jax.recordings.opening import open_recording
from sleeplm_jax.recordings.prepare import prepare_night
from sleeplm_jax.recordings.scoring import read_scoring


def counts(stages):
    return {int(k): int(v) for k, v in zip(*np.unique(stages, return_counts=True), strict=True)}


@pytest.fixture(scope="module")
def nox(psg):
    return psg / "rsleep_nox" / "subject1.edf"


def test_nox_resolves_all_channels_from_named_sources(nox):
    found = inspect_recording(nox)
    assert found["montage"] == "nox" and len(found["signals"]) == 89
    sources = {name: row["source"] for name, row in found["channels"].items()}
    assert sources == {
        "ECG": "ECG", "ABD": "Abdomen", "THX": "Chest", "AF": "Nasal Pressure",
        "EOG-L": "E1-M2", "EOG-R": "E2-M1", "C3": "C3-M2", "C4": "C4-M1", "EMG": "1-2",
        "POS": "PosAngle", "HR": "Heart Rate", "SpO2": "Saturation", "SNORE": "Snoring",
        "LEG-L": "Left Leg", "LEG-R": "Right Leg", "F3": "F3-M2", "F4": "F4-M1", "O1": "O1-M2",
        "O2": "O2-M1",
    }  # fmt: skip
    assert not any(row["stand_in"] for row in found["channels"].values())
    assert found["channels"]["C3"]["file_unit"] == "V" and found["channels"]["C3"]["unit"] == "µV"
    assert {s["rate"] for s in found["signals"]} == {1, 3, 5, 20, 25, 75, 100, 200}
    assert "C3 Impédance" in {s["label"] for s in found["signals"]}


def test_nox_microvolts_equal_those_mne_reads(nox):
    mne = pytest.importorskip("mne")
    night = prepare_night(nox)
    assert night.signals.shape == (4, 10, 1920) and night.mask.all()
    names = {"ECG": "ECG", "C3": "C3-M2", "C4": "C4-M1", "EOG-L": "E1-M2", "EOG-R": "E2-M1",
             "EMG": "1-2"}  # fmt: skip
    raw = mne.io.read_raw_edf(nox, include=list(names.values()), verbose="ERROR")
    assert raw.info["sfreq"] == 200
    for channel, label in names.items():
        volts = raw.get_data(picks=[label])[0]
        np.testing.assert_allclose(night.traces[channel].values, volts * 1e6, rtol=1e-5, atol=1e-3)


def test_nox_position_follows_its_accelerometer(nox):
    recording = open_recording(nox)
    index = {s.label: i for i, s in enumerate(recording.signals)}
    x, y = recording.read(index["X Axis"]), recording.read(index["Y Axis"])
    angle = recording.read(index["PosAngle"])
    np.testing.assert_allclose(angle, np.degrees(np.arctan2(x, -y)), atol=0.1)
    night = prepare_night(nox)
    pos = night.signals[:, night.spec.channels.index("POS")]
    assert np.unique(pos).tolist() == [1] and np.abs(angle).max() < 90
    assert any("position_unverified" in flag for flag in night.flags)


@pytest.mark.parametrize("suffix", ["edf", "bdf"])
def test_sleep_edf_piece_takes_only_what_corresponds(psg, suffix):
    folder = psg / "edfio_sleepedf_short"
    night = prepare_night(
        folder / f"short_psg.{suffix}", scoring=folder / f"SC4001EC-Hypnogram.{suffix}"
    )
    assert night.signals.shape == (10, 10, 1920)
    present = {n for c, n in enumerate(night.spec.channels) if night.mask[:, c].all()}
    assert present == {"AF", "EOG-L", "C3", "EMG"}
    absent = [c for c, n in enumerate(night.spec.channels) if n not in present]
    assert not night.mask[:, absent].any()
    stand_ins = {n for n, r in night.channels.items() if r is not None and r.stand_in}
    assert stand_ins == {"C3", "EOG-L", "EMG"}
    assert night.channels["C3"].source == "EEG Fpz-Cz"
    assert (night.stages == 0).all() and night.rules == "R&K"
    assert "scoring_longer_than_signal: 2650 epochs scored, 10 recorded" in night.flags


def test_ucddb_night_is_whole(psg):
    folder = psg / "ucddb_eeg"
    night = prepare_night(folder / "ucddb018_eeg.edf", scoring=folder / "ucddb018_hypnogram.edf")
    assert night.signals.shape == (822, 10, 1920) and night.subject == "ucddb018"
    assert counts(night.stages) == {0: 328, 1: 58, 2: 280, 3: 137, 4: 19}
    assert night.channels["C3"].stand_in and night.channels["C3"].unit == "unknown"
    assert any("amplitude_unknown: C3" in flag for flag in night.flags)
    found = prepare_night(folder / "ucddb018_eeg.edf")  # the events.tsv beside it
    np.testing.assert_array_equal(found.stages, night.stages)
    # Slow activity grows with depth: a shifted or mis-coded scoring would lose this.
    c = night.spec.channels.index("C3")
    spectra = np.abs(np.fft.rfft(night.signals[:, c] * np.hanning(1920))) ** 2
    hz = np.fft.rfftfreq(1920, 1 / 64)
    share = spectra[:, (hz >= 0.5) & (hz < 4)].sum(1) / spectra[:, (hz >= 0.5) & (hz < 30)].sum(1)
    n3, n2, wake = (np.median(share[night.stages == s]) for s in (3, 2, 0))
    assert n3 > n2 > wake


@pytest.mark.parametrize("number", ["01", "02", "03"])
def test_profusion_nights_agree_with_a_plain_text_count(psg, number):
    path = psg / "nsrr_xml" / f"learn-nsrr{number}.xml"
    scoring = read_scoring(path, None)
    text = path.read_text()
    codes = re.findall(r"<SleepStage>(\d)</SleepStage>", text)
    assert len(scoring.stages) == len(codes)
    plain = {0: "0", 1: "1", 2: "2", 3: "34", 4: "5"}
    for stage, digits in plain.items():
        assert (scoring.stages == stage).sum() == sum(codes.count(d) for d in digits)
    scored = text[text.index("<ScoredEvents>") :]
    names = re.findall(r"<ScoredEvent>.*?<Name>([^<]*)", scored, re.DOTALL)
    assert len(scoring.events) == len(names) > 200
    kinds = [event.kind for event in scoring.events]
    for name, kind in (("Hypopnea", "hypopnea"), ("Arousal ()", "arousal"),
                       ("Obstructive Apnea", "obstructive_apnea"), ("SpO2 artifact", "artefact"),
                       ("SpO2 desaturation", "desaturation")):  # fmt: skip
        assert kinds.count(kind) == names.count(name) > 0
    nadirs = [e.value for e in scoring.events if e.kind == "desaturation"]
    assert nadirs == [float(v) for v in re.findall(r"<LowestSpO2>([^<]*)", scored)]
    assert ("4" in codes) == (scoring.rules == "R&K")


def test_all_sleep_edf_hypnograms_parse(psg):
    paths = sorted((psg / "sleepedf_hypnograms" / "edf").glob("*-Hypnogram.edf"))
    assert len(paths) == 20
    for path in paths:
        scoring = read_scoring(path, None)
        assert scoring.rules == "R&K" and scoring.flags == ()
        assert {0, 1, 2, 3, 4} <= set(counts(scoring.stages)) and len(scoring.stages) >= 2500
        # Independently: seconds of each stage text in the annotation bytes.
        spans = re.findall(rb"\+[\d.]+\x15([\d.]+)\x14Sleep stage (.)\x14", path.read_bytes())
        deep = sum(float(s) for s, code in spans if code in b"34") / 30
        assert counts(scoring.stages)[3] == deep
        assert (
            counts(scoring.stages).get(UNSCORED, 0)
            == sum(float(s) for s, code in spans if code == b"?") / 30
        )


def test_boas_tables_parse(psg):
    paths = sorted((psg / "openneuro_ds005555_boas").glob("sub-1*/eeg/*psg_events.tsv"))
    assert paths
    for path in paths:
        scoring = read_scoring(path, None)
        column = path.read_text().splitlines()[0].split("\t").index("stage_hum")
        codes = [line.split("\t")[column] for line in path.read_text().splitlines()[1:]]
        assert (scoring.stages == 3).sum() == codes.count("3")
        assert (scoring.stages == UNSCORED).sum() == codes.count("8")


def corner(psg, name):
    return psg / "edf_corner_cases" / name


def test_corner_cases_behave(psg):
    for name in ("nsrr_edfize_zero-data-records.edf", "nsrr_edfize_invalid-date.edf"):
        with pytest.raises(RecordingError, match="holds no data"):
            open_recording(corner(psg, name))
    # EDF+D in its header, but its records follow each other without a gap.
    assert open_recording(corner(psg, "nihonkohden_edfplusD_discontinuous.edf")).duration_s == 29
    uneven = open_recording(corner(psg, "mne_test_uneven_samp.edf"))
    assert [s.rate for s in uneven.signals] == [100, 12.8]
    odd = open_recording(corner(psg, "mne_test_edf_stim_channel.edf"))
    assert odd.duration_s == 9.59375 and odd.signals[0].samples == 1228
    subsecond = open_recording(corner(psg, "mne_subsecond_starttime.edf"))
    assert subsecond.start.microsecond == 394531
    twice = inspect_recording(corner(psg, "mne_duplicate_channel_labels.edf"))
    assert [s["label"] for s in twice["signals"]].count("EEG F1-Ref") == 2
    clinical = inspect_recording(corner(psg, "mne_chtypes_edf.edf"))
    assert clinical["channels"]["C3"]["source"] == "[EEG C3-Ref] - [EEG A2-Ref]"
    assert clinical["channels"]["C3"]["labels"] == ["EEG C3-Ref", "EEG A2-Ref"]


def test_cpap_files_have_no_usable_channel(psg):
    for path in sorted((psg / "resmed_cpap").glob("*.edf")):
        with pytest.raises(RecordingError, match="no usable channel"):
            prepare_night(path)


def test_a_60_second_multimodal_piece_resolves_what_it_names(psg):
    night = prepare_night(psg / "slpdb_multimodal" / "slp41_60s.edf")
    assert night.signals.shape == (2, 10, 1920)
    assert night.channels["C4"].source == "EEG (C4-A1)" and night.channels["C3"] is None
    assert not any("implausible" in flag for flag in night.flags)
