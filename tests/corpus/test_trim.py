"""Another trimming makes other nights, and a night file keeps how it was cut."""

import shutil

import pytest

from sleeplm_jax.cli import main
from sleeplm_jax.corpus.nightfile import read_night
from sleeplm_jax.corpus.prepare import prepare_corpus
from sleeplm_jax.recordings.trim import Trim


@pytest.fixture
def one(simulated_folder, tmp_path):
    folder = tmp_path / "recordings"
    folder.mkdir()
    for path in simulated_folder.glob("sim-3-0000.*"):
        shutil.copy(path, folder)
    return folder


def test_another_trim_prepares_the_nights_again(one, tmp_path):
    out = tmp_path / "corpus"

    def run(trim):
        return prepare_corpus([one], out, workers=1, progress=False, trim=trim)

    night = out / "nights" / "sim-3-0000.npz"
    assert run(Trim("none")).prepared == ("sim-3-0000",)
    whole = read_night(night)
    assert whole.trim["mode"] == "none" and whole.trim["cut_before_s"] == 0
    assert run(Trim("none")).prepared == ()
    assert run(Trim("sleep", 2)).prepared == ("sim-3-0000",)
    kept = read_night(night)
    asleep = (whole.stages > 0).nonzero()[0]
    first, last = max(0, asleep[0] - 4), min(len(whole.stages), asleep[-1] + 5)
    assert kept.trim["start_s"] == 30 * first and len(kept.stages) == last - first
    assert (kept.stages == whole.stages[first:last]).all()
    assert len(kept.stages) < len(whole.stages)  # else this night would show nothing
    assert run(Trim("sleep", 2)).prepared == ()
    assert run(Trim("sleep", 3)).prepared == ("sim-3-0000",)


def test_a_wrong_trim_is_one_line(one, tmp_path, capsys):
    arguments = ["prepare", "--recordings", str(one), "--out", str(tmp_path / "corpus")]
    assert main([*arguments, "--trim", "night"]) == 2
    assert "--trim: is 'night'; choose from none, lights, sleep" in capsys.readouterr().err
    assert main([*arguments, "--trim", "sleep", "--trim-margin", "-1"]) == 2
    assert "--trim-margin: is -1.0; give minutes, 0 or more" in capsys.readouterr().err
