"""Headers that lie: a wrong number must end in one line or a flag, never in wrong samples."""

import edfio
import numpy as np
import pytest

from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings.inspection import inspect_recording
from sleeplm_jax.recordings.montage import load_montage
from sleeplm_jax.recordings.montage_match import resolve
from sleeplm_jax.recordings.opening import open_recording
from sleeplm_jax.recordings.prepare import prepare_night
from sleeplm_jax.recordings.scoring import read_scoring
from tests.recordings.edf_files import c3, patch, signal, tone, write
from tests.recordings.test_edf import discontinuous

FIELDS = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)  # bytes of each header field of a signal


def field(signals, number, index=0):
    """Offset of field `number` of signal `index` in a header of `signals` signals."""
    return 256 + signals * sum(FIELDS[:number]) + FIELDS[number] * index


@pytest.mark.parametrize(
    "duration, finding",
    [("0", "last 0 s"), ("1e-7", "Hz by its header"), ("100000", "lasts 2500 h by its header")],
)
def test_a_damaged_record_duration_is_refused(tmp_path, duration, finding):
    path = patch(write(tmp_path / "a.edf", [c3(90)]), 244, duration.ljust(8).encode())
    with pytest.raises(RecordingError, match=finding):
        inspect_recording(path)


@pytest.mark.parametrize("highest", ["nan", "9e38", "1e300"])
@pytest.mark.filterwarnings("error")
def test_a_signal_of_absurd_range_is_left_out_and_said(tmp_path, highest):
    path = write(tmp_path / "a.edf", [c3(90), c3(90, label="C4-M1")])
    patch(path, field(2, 4), highest.ljust(8).encode())
    night = prepare_night(path)
    assert any(f.startswith("uncalibrated_signal: 'C3-M2'") for f in night.flags)
    channels = night.spec.channels
    assert not night.mask[:, channels.index("C3")].any()
    assert night.mask[:, channels.index("C4")].all() and np.isfinite(night.signals).all()


@pytest.mark.parametrize("jump, flagged", [(0, False), (12, True)])
def test_times_that_jump_in_a_continuous_file_are_flagged(tmp_path, jump, flagged):
    path = patch(discontinuous(tmp_path / "a.edf", jump), 192, b"EDF+C")
    said = [f for f in open_recording(path).flags if f.startswith("record_times_jump")]
    assert len(said) == flagged and all("by 12 s after 30 s" in f for f in said)


@pytest.mark.parametrize("samples", ["99", "50", "0"])
def test_sample_counts_that_do_not_fit_the_data_are_refused(tmp_path, samples):
    path = write(tmp_path / "a.edf", [c3(60), c3(60, label="C4-M1")], annotations=[])
    patch(path, field(3, 8), samples.ljust(8).encode())
    with pytest.raises(RecordingError, match="sample counts do not fit"):
        open_recording(path)


def test_a_trend_is_not_taken_for_eeg(tmp_path):
    path = write(tmp_path / "a.edf", [signal("C3-M2", tone(0.1, 50, 90, rate=1), rate=1)])
    assert resolve(open_recording(path), load_montage("generic"))["C3"] is None


def test_a_position_alone_is_no_usable_channel(tmp_path):
    path = write(tmp_path / "a.edf", [
        signal("Position", np.zeros(90), 1), signal("ABD", np.zeros(900), 10),
        signal("C3-M2", np.zeros(9000)),
    ])  # fmt: skip
    with pytest.raises(RecordingError, match="no usable channel"):
        prepare_night(path, montage="simulated")


@pytest.mark.parametrize("row", ["1e13\t30", "0\t1e13"])
def test_bids_times_that_no_recording_lasts_are_refused(tmp_path, row):
    path = tmp_path / "a_events.tsv"
    path.write_text(f"onset\tduration\ttrial_type\n{row}\tN2\n")
    with pytest.raises(RecordingError, match="a_events.tsv: scores until 1e[+]13 s"):
        read_scoring(path, 90)


def test_annotation_times_that_no_recording_lasts_are_refused(tmp_path):
    late = [edfio.EdfAnnotation(1e12, 30, "Sleep stage W")]
    path = write(tmp_path / "a.edf", [signal("x", np.zeros(30), 1)], annotations=late)
    with pytest.raises(RecordingError, match="which no recording lasts"):
        read_scoring(path, 90)


@pytest.mark.parametrize("text", [b"\xff\xfe", b"name: x\nchannels: {}\nsubject: '('\n",
                                  b"name: x\nchannels: {}\nsubject: 'no group'\n"])
def test_a_montage_that_cannot_work_is_refused_when_it_is_read(tmp_path, text):
    path = tmp_path / "m.yaml"
    path.write_bytes(text)
    with pytest.raises(RecordingError, match="m.yaml: not a"):
        load_montage(path)
