"""Recordings of other formats than EDF: written by their own libraries, read as tensors."""

import datetime
import shutil

import h5py
import numpy as np
import pytest
import wfdb

from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings.inspection import inspect_recording
from sleeplm_jax.recordings.opening import open_recording
from sleeplm_jax.recordings.prepare import prepare_night
from tests.recordings.edf_files import c3, write

RATE, SECONDS = 200, 120


def waves(count, seconds=SECONDS, rate=RATE):
    t = np.arange(seconds * rate) / rate
    return np.stack([30 * np.sin(2 * np.pi * (3 + i) * t + i) for i in range(count)], axis=1)


def write_wfdb(folder, name="night", labels=("C3-M2", "C4-M1", "SaO2"), values=None, **more):
    values = waves(len(labels)) if values is None else values
    wfdb.wrsamp(name, fs=RATE, units=["uV"] * (len(labels) - 1) + ["%"], sig_name=list(labels),
                p_signal=values, fmt=["16"] * len(labels), write_dir=str(folder), **more)
    return folder / f"{name}.hea"


def write_dreem(path, unit="µV"):
    with h5py.File(path, "w") as file:
        for kind, names in (("eeg", ("C3_M2", "F3_F4")), ("eog", ("EOG1",))):
            group = file.create_group(f"signals/{kind}")
            group.attrs["fs"], group.attrs["unit"] = 250, unit
            for i, name in enumerate(names):
                group[name] = waves(3, rate=250)[:, i]
        file["hypnogram"] = np.zeros(4, int)
    return path


def test_wfdb_signals_come_in_their_units_at_their_rate(tmp_path):
    path = write_wfdb(tmp_path, base_time=datetime.time(23, 7))
    recording = open_recording(path)
    assert [s.label for s in recording.signals] == ["C3-M2", "C4-M1", "SaO2"]
    assert [s.unit for s in recording.signals] == ["uV", "uV", "%"]
    assert recording.duration_s == SECONDS and recording.start == datetime.time(23, 7)
    for i in range(3):  # a step of 16 bits over the signal's range is 0.001
        np.testing.assert_allclose(recording.read(i), waves(3)[:, i], atol=0.002)


def test_wfdb_signals_of_several_rates_keep_theirs(tmp_path):
    fast = waves(1)[:, 0]
    wfdb.wrsamp("mixed", fs=RATE // 4, units=["uV", "uV"], sig_name=["C3-M2", "EMG"],
                e_p_signal=[fast[::4], fast], samps_per_frame=[1, 4], fmt=["16", "16"],
                write_dir=str(tmp_path))
    recording = open_recording(tmp_path / "mixed.hea")
    assert [s.rate for s in recording.signals] == [RATE / 4, RATE]
    np.testing.assert_allclose(recording.read(1), fast, atol=0.002)


def test_a_wfdb_night_becomes_tensors(tmp_path):
    night = prepare_night(write_wfdb(tmp_path), scoring=None)
    assert night.signals.shape == (4, 10, 1920)
    c3_index = night.spec.channels.index("C3")
    assert night.mask[:, c3_index].all() and night.channels["C3"].source == "C3-M2"


def test_invalid_wfdb_samples_are_a_flat_stretch(tmp_path):
    values = waves(2)
    values[30 * RATE : 60 * RATE, 0] = np.nan
    path = write_wfdb(tmp_path, labels=("C3-M2", "SaO2"), values=values)
    read = open_recording(path).read(0)
    assert np.isfinite(read).all() and np.ptp(read[30 * RATE : 60 * RATE]) == 0
    night = prepare_night(path, scoring=None)
    assert night.mask[:, night.spec.channels.index("C3")].tolist() == [True, False, True, True]


@pytest.mark.parametrize(
    "old, new, finding",
    [(b"night.dat", b"../night.dat", "does not lie beside it|HeaderSyntax"),
     (b"night.dat", b"other.dat", "is missing"),
     (b"24000", b"99000", "truncated"), (b" 200 ", b" nan ", "cannot be read|rate|lasts 0 s"),
     (b"24000", b"99999999999", "lasts|truncated")],
)  # fmt: skip
def test_a_lying_wfdb_header_is_refused_in_one_line(tmp_path, old, new, finding):
    path = write_wfdb(tmp_path)
    path.write_bytes(path.read_bytes().replace(old, new))
    with pytest.raises(RecordingError, match=finding) as said:
        open_recording(path)
    assert "\n" not in str(said.value)


def test_a_real_header_without_its_signals_says_so(psg):
    with pytest.raises(RecordingError, match="'slp01a.dat' is missing"):
        open_recording(psg / "slpdb_annotations" / "slp01a.hea")


@pytest.mark.parametrize("unit", ["µV", b"\xc2\xb5V", "uV"])
def test_dreem_signals_are_named_after_their_datasets(tmp_path, unit):
    recording = open_recording(write_dreem(tmp_path / "night.h5", unit))
    assert [(s.label, s.transducer) for s in recording.signals] == [
        ("C3_M2", "eeg"), ("F3_F4", "eeg"), ("EOG1", "eog")]
    np.testing.assert_allclose(recording.read(2), waves(3, rate=250)[:, 0])
    found = inspect_recording(recording.path)
    assert found["channels"]["C3"]["source"] == "C3_M2"


def test_hdf5_links_out_of_the_file_are_not_followed(tmp_path):
    secret = write_dreem(tmp_path / "other.h5")
    path = tmp_path / "night.h5"
    with h5py.File(path, "w") as file:
        file["signals"] = h5py.ExternalLink(str(secret), "/signals")
    with pytest.raises(RecordingError, match="without /signals"):
        open_recording(path)
    with h5py.File(path, "w") as file:
        file.create_group("signals")["eeg"] = h5py.ExternalLink(str(secret), "/signals/eeg")
    with pytest.raises(RecordingError, match="holds 0 signals"):
        open_recording(path)


def test_a_damaged_hdf5_file_is_refused(tmp_path):
    path = write_dreem(tmp_path / "night.h5")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 3])
    with pytest.raises(RecordingError):
        open_recording(path)


def test_edf_under_another_suffix_is_read(tmp_path):
    path = shutil.copy(write(tmp_path / "a.edf", [c3(60)]), tmp_path / "ucddb002.rec")
    assert open_recording(path).signals[0].label == "C3-M2"


def test_an_unknown_format_is_refused(tmp_path):
    path = tmp_path / "a.edf"
    path.write_bytes(b"RIFF" + bytes(400))
    with pytest.raises(RecordingError, match="is not an EDF"):
        open_recording(path)
    with pytest.raises(RecordingError, match="cannot be opened"):
        open_recording(tmp_path / "absent.edf")


def test_the_samples_of_a_wfdb_record_name_their_header(tmp_path):
    path = write_wfdb(tmp_path).with_suffix(".dat")
    with pytest.raises(RecordingError, match="give its header night.hea"):
        open_recording(path)
