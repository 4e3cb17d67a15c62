import os
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from sleeplm_jax.config import CANONICAL_CHANNELS, SLEEPLM_CHANNELS, SignalSpec
from sleeplm_jax.corpus import nightfile
from sleeplm_jax.corpus.nightfile import dequantise, quantise, read_night, write_night
from sleeplm_jax.errors import CorpusError
from sleeplm_jax.recordings.night import Provenance
from tests.corpus import handmade


def test_the_same_night_gives_the_same_bytes(tmp_path, monkeypatch):
    night = handmade.night()
    write_night(night, handmade.records(night), tmp_path / "a.npz")
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.0)
    again = handmade.night()
    write_night(again, handmade.records(again), tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_another_night_gives_other_bytes(tmp_path):
    for name, seed in (("a", 0), ("b", 1)):
        night = handmade.night(seed=seed)
        write_night(night, handmade.records(night), tmp_path / name)
    assert (tmp_path / "a").read_bytes() != (tmp_path / "b").read_bytes()


def test_a_night_comes_back_as_it_was_written(tmp_path):
    night = handmade.night()
    records = handmade.records(night)
    write_night(night, records, tmp_path / "n.npz")
    back = read_night(tmp_path / "n.npz")
    error = np.abs(dequantise(back.signals, back.spec.channels) - night.signals)
    assert error.max() <= 6 / 32767 / 2 + 1e-6  # half a step of 16 bits over +-6
    position = back.spec.channels.index("POS")
    np.testing.assert_array_equal(back.signals[:, position], night.signals[:, position])
    assert -1 in back.signals[:, position]
    for name in ("mask", "scale", "offset", "stages"):
        np.testing.assert_array_equal(getattr(back, name), getattr(night, name))
    assert [nightfile.json.loads(r) for r in back.records] == records
    assert back.events[1] == {
        "kind": "arousal", "onset": 40.0, "duration": 4.0, "channel": "C3", "value": None,
        "text": None, "timed": True, "depth": None,
    }  # fmt: skip
    assert back.channels["C3"]["source"] == "C3-M2" and back.channels["C4"] is None
    assert (back.recording, back.subject, back.flags) == ("hand", "hand", ("flag ä",))
    assert back.provenance["rules"] == "unknown" and back.trim is None
    assert not back.artefacts.any() and back.input_artefacts.shape == (4, 10)


def test_artefacts_provenance_and_trim_come_back(tmp_path):
    night = handmade.night(3, spec=SignalSpec(channels=("POS", "C4", "SpO2")))
    marked = np.arange(3 * len(CANONICAL_CHANNELS), dtype=np.uint8).reshape(3, -1)
    night = replace(
        night, artefacts=marked, provenance=Provenance("AASM 2.6", age=61.0, cohort_flags=("a",)),
        extra={"trim": {"cut_before_s": 300.0}},
    )
    write_night(night, handmade.records(night), tmp_path / "n.npz")
    back = read_night(tmp_path / "n.npz")
    np.testing.assert_array_equal(back.artefacts, marked)
    columns = [CANONICAL_CHANNELS.index(name) for name in ("POS", "C4", "SpO2")]
    np.testing.assert_array_equal(back.input_artefacts, marked[:, columns])
    assert (back.provenance["rules"], back.provenance["age"]) == ("AASM 2.6", 61.0)
    assert back.trim == {"cut_before_s": 300.0}
    with pytest.raises(ValueError, match="artefacts has shape"):
        bad = replace(night, artefacts=marked[:, :3])
        write_night(bad, handmade.records(night), tmp_path / "m")


def test_quantising_clips_and_keeps_codes():
    signals = np.zeros((10, 3))
    signals[0] = [-7, 6, 1.5]
    signals[SLEEPLM_CHANNELS.index("POS")] = [-1, 0, 4]
    q = quantise(signals, SLEEPLM_CHANNELS)
    assert q.dtype == np.int16
    assert q[0].tolist() == [-32767, 32767, 8192]  # 1.5 / 6 of 32767 is 8191.75
    assert q[9].tolist() == [-1, 0, 4]


def test_arrays_that_disagree_or_hold_nan_are_refused(tmp_path):
    night = handmade.night()
    with pytest.raises(ValueError, match=r"records has shape \(3,\), expected \(4,\)"):
        write_night(night, handmade.records(night)[:3], tmp_path / "n")
    signals = night.signals.copy()
    signals[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="signals holds values that are not finite"):
        write_night(replace(night, signals=signals), handmade.records(night), tmp_path / "n")
    assert not list(tmp_path.iterdir())


def test_an_interrupted_write_leaves_the_old_night(tmp_path, monkeypatch):
    path = tmp_path / "n.npz"
    night = handmade.night()
    write_night(night, handmade.records(night), path)
    before = path.read_bytes()

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    other = handmade.night(seed=1)
    with pytest.raises(KeyboardInterrupt):
        write_night(other, handmade.records(other), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["n.npz"]


def test_absent_damaged_and_other_versions_are_named(tmp_path, monkeypatch):
    path = tmp_path / "n.npz"
    with pytest.raises(CorpusError, match="no such night file"):
        read_night(path)
    night = handmade.night()
    monkeypatch.setattr(nightfile, "NIGHT_FORMAT", 99)
    write_night(night, handmade.records(night), path)
    monkeypatch.undo()
    with pytest.raises(CorpusError, match="night file of format 99, this version reads 2"):
        read_night(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CorpusError, match="damaged night file"):
        read_night(path)
