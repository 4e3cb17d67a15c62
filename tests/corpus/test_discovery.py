import os
import shutil

import pytest

from sleeplm_jax.corpus.discovery import find_recordings
from sleeplm_jax.errors import CorpusError


def edf(path, *labels):
    path.parent.mkdir(parents=True, exist_ok=True)
    header = b"0".ljust(252) + str(len(labels)).encode().ljust(4)
    path.write_bytes(header + b"".join(label.encode().ljust(16) for label in labels))
    return path


def names(*given, **kwargs):
    return [found.night for found in find_recordings(list(given), **kwargs)]


def test_recordings_are_found_and_hypnograms_left_out(tmp_path):
    edf(tmp_path / "b.EDF", "EEG", "EDF Annotations")
    edf(tmp_path / "deep" / "a.bdf", "EEG")
    hypnogram = edf(tmp_path / "a-Hypnogram.edf", "EDF Annotations")
    edf(tmp_path / "._b.edf", "EEG")
    (tmp_path / "note.txt").write_text("x")
    (tmp_path / "broken.edf").write_bytes(b"")  # opening it will say what is wrong
    assert names(tmp_path) == ["a", "b", "broken"]
    assert names(hypnogram) == ["a-Hypnogram"]


def test_a_file_given_twice_is_one_recording(tmp_path):
    path = edf(tmp_path / "a.edf", "EEG")
    (tmp_path / "link").symlink_to(tmp_path)  # a loop, too
    assert names(tmp_path, path, tmp_path / ".") == ["a"]


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path):
    edf(tmp_path / "p 1" / "PSG.edf", "EEG")
    edf(tmp_path / "p2" / "PSG.edf", "EEG")
    edf(tmp_path / "p2" / "PSG.bdf", "EEG")
    edf(tmp_path / "p2" / "other.edf", "EEG")
    found = {f.night: f.folder for f in find_recordings([tmp_path])}
    assert found == {"p_1-PSG": "p_1", "p2-PSG.bdf": "p2", "p2-PSG.edf": "p2", "other": None}


def test_two_formats_of_one_recording_keep_their_suffix(tmp_path):
    edf(tmp_path / "a.edf", "EEG")
    edf(tmp_path / "a.bdf", "EEG")
    assert names(tmp_path) == ["a.bdf", "a.edf"]


def test_same_names_in_parallel_folders(tmp_path):
    for site in ("a", "b"):
        for person in ("p1", "p2"):
            edf(tmp_path / site / person / "PSG.edf", "EEG")
    assert names(tmp_path) == ["a-p1-PSG", "a-p2-PSG", "b-p1-PSG", "b-p2-PSG"]


def test_the_corpus_itself_is_not_searched(tmp_path):
    edf(tmp_path / "a.edf", "EEG")
    edf(tmp_path / "corpus" / "b.edf", "EEG")
    assert names(tmp_path, leave_out=tmp_path / "corpus") == ["a"]


def test_nothing_found_and_absent_paths_are_named(tmp_path):
    with pytest.raises(CorpusError, match="holds no"):
        find_recordings([tmp_path])
    with pytest.raises(CorpusError, match="no such file or folder"):
        find_recordings([tmp_path / "absent"])


def test_a_file_named_hypnogram_is_no_recording(tmp_path, simulated_folder):
    shutil.copy(simulated_folder / "sim-3-0000.edf", tmp_path / "p1_eeg.edf")
    shutil.copy(simulated_folder / "sim-3-0000.edf", tmp_path / "p1_hypnogram.edf")
    assert [found.night for found in find_recordings([tmp_path])] == ["p1_eeg"]


def test_other_formats_are_found_and_the_same_night_is_taken_once(tmp_path):
    for name in ("a/psg.edf", "a/psg.h5", "b/night.h5", "c/slp01a.hea", "c/slp01a.dat", "d/u.rec"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"0")
    found = {f.path.relative_to(tmp_path).as_posix() for f in find_recordings([tmp_path])}
    assert found == {"a/psg.edf", "b/night.h5", "c/slp01a.hea", "d/u.rec"}


@pytest.fixture
def locked(tmp_path, monkeypatch):
    """A folder with a recording, and one below it that may not be listed (by root it may be)."""
    edf(tmp_path / "a.edf", "EEG")
    edf(tmp_path / "locked" / "b.edf", "EEG")
    real = os.scandir

    def scandir(path="."):
        if path in (tmp_path / "locked", str(tmp_path / "locked")):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    return tmp_path


def test_a_folder_that_cannot_be_listed_is_said(locked):
    problems = []
    assert [f.night for f in find_recordings([locked], unreadable=problems)] == ["a"]
    assert [error.filename for error in problems] == [str(locked / "locked")]
    with pytest.raises(CorpusError, match=r"locked: folder cannot be listed \(Permission denied\)"):
        find_recordings([locked])
    with pytest.raises(CorpusError, match="folder cannot be listed"):
        find_recordings([locked / "locked"], unreadable=[])
