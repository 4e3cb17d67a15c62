"""What is refused when a file is opened, and what is only flagged."""

import datetime

import edfio
import numpy as np
import pytest

from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings.opening import open_recording
from tests.recordings.edf_files import c3, patch, signal, tone, write


def test_signals_keep_their_own_rate_and_values(tmp_path):
    wave = tone(2, 50, 60)
    path = write(tmp_path / "a.edf", [signal("C3-M2", wave), signal("HR", np.full(60, 61.0), 1)])
    recording = open_recording(path)
    assert [s.rate for s in recording.signals] == [100, 1]
    assert recording.duration_s == 60
    assert recording.start == datetime.time(22, 30)
    np.testing.assert_allclose(recording.read(0), wave, atol=2e-3)


def test_bdf_is_read_with_24_bits(tmp_path):
    wave = tone(2, 50, 60)
    bdf = edfio.Bdf([edfio.BdfSignal(wave, 100, label="C3-M2", physical_dimension="uV")])
    bdf.write(tmp_path / "a.bdf")
    np.testing.assert_allclose(open_recording(tmp_path / "a.bdf").read(0), wave, atol=1e-4)


def refused(path, finding):
    with pytest.raises(RecordingError, match=finding) as caught:
        open_recording(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message and caught.value.remedy
    return message


def test_truncated_file_is_refused_with_both_numbers(tmp_path):
    path = write(tmp_path / "a.edf", [c3(90)])
    path.write_bytes(path.read_bytes()[: -100 * RECORD_BYTES])
    assert "header says 90 data records, the file holds" in refused(path, "truncated")


RECORD_BYTES = 37  # deliberately no whole number of records


def test_zero_records_are_refused(tmp_path):
    path = write(tmp_path / "a.edf", [c3()])
    patch(path, 236, b"0       ")
    refused(path, "holds no data")


@pytest.mark.parametrize(
    "offset, new",
    [
        (184, b"99999999"),  # header size
        (236, b"many    "),  # number of records
        (244, b"nan     "),  # record duration
        (252, b"-3  "),  # number of signals
        (252, b"9999"),
        (256 + 216, b"-5      "),  # samples per record of the first signal
    ],
)
def test_absurd_headers_are_refused_before_anything_is_read(tmp_path, offset, new):
    path = patch(write(tmp_path / "a.edf", [c3()]), offset, new)
    refused(path, "header|bytes|record")


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "a.edf"
    path.write_bytes(b"PK\x03\x04" + bytes(1000))
    refused(path, "not an EDF")
    path.write_bytes(b"")
    refused(path, "is empty")
    refused(tmp_path / "absent.edf", "cannot be opened")
    refused(tmp_path, "cannot be opened")


def test_every_cut_of_a_file_is_one_recording_error(tmp_path):
    whole = write(tmp_path / "whole.edf", [c3(60)], annotations=[]).read_bytes()
    for length in (0, 100, 255, 256, 300, 700, 768, 769, 2000, len(whole) - 1):
        path = tmp_path / "cut.edf"
        path.write_bytes(whole[:length])
        refused(path, ".")


def test_noise_in_the_header_never_raises_anything_else(tmp_path):
    whole = write(tmp_path / "whole.edf", [c3(60)], annotations=[]).read_bytes()
    for trial in range(200):
        rng = np.random.default_rng([3, trial])
        raw = bytearray(whole)
        for at in rng.integers(0, 768, 4):
            raw[at] = rng.integers(256)
        path = tmp_path / "noisy.edf"
        path.write_bytes(bytes(raw))
        try:
            recording = open_recording(path)
            for index, info in enumerate(recording.signals):
                if info.readable:
                    recording.read(index)
        except RecordingError as error:
            assert "\n" not in str(error)


def discontinuous(path, jump):
    """An EDF+D of 60 1-s records whose times jump by `jump` seconds after the 30th."""
    write(path, [c3(60)], annotations=[])
    raw = bytearray(path.read_bytes())
    raw[192:197] = b"EDF+D"
    header = int(raw[184:192])
    per_record = 2 * (100 + int(raw[256 + 2 * 216 + 8 : 256 + 2 * 216 + 16]))
    for record in range(60):
        at = header + record * per_record + 200
        stamp = f"+{record + (jump if record >= 30 else 0):d}".encode() + b"\x14\x14\x00"
        raw[at : at + 8] = stamp.ljust(8, b"\x00")
    path.write_bytes(bytes(raw))
    return path


def test_edf_d_with_a_gap_is_refused_where_the_gap_is(tmp_path):
    message = refused(discontinuous(tmp_path / "a.edf", 12), "discontinuous")
    assert "gap of 12 s after 30 s" in message


def test_edf_d_without_a_gap_is_read(tmp_path):
    assert open_recording(discontinuous(tmp_path / "a.edf", 0)).duration_s == 60


def test_an_invalid_start_date_is_only_a_flag(tmp_path):
    path = patch(write(tmp_path / "a.edf", [c3()]), 168, b"31.13.99")
    patch(path, 88, b"no startdate here".ljust(80))
    recording = open_recording(path)
    assert recording.start is None
    assert any(flag.startswith("invalid_start") for flag in recording.flags)
    assert len(recording.read(0)) == 9000


def test_an_unfinished_header_and_data_beyond_it_are_flagged(tmp_path):
    path = patch(write(tmp_path / "a.edf", [c3()]), 236, b"-1      ")
    recording = open_recording(path)
    assert recording.duration_s == 90 and "unfinished_header" in recording.flags[0]
    patch(path, 236, b"60      ")
    recording = open_recording(path)
    assert recording.duration_s == 60 and len(recording.read(0)) == 6000
    assert "data_beyond_header" in recording.flags[0]


def test_a_signal_without_calibration_is_left_out(tmp_path):
    path = write(tmp_path / "a.edf", [c3()])
    patch(path, 256 + 104, b"7       7       ")  # physical minimum and maximum
    recording = open_recording(path)
    assert not recording.signals[0].readable and "uncalibrated" in recording.flags[0]
    with pytest.raises(RecordingError, match="no calibration"):
        recording.read(0)
