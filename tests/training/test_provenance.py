"""What a run's folder says of its code, versions, hardware and command; and what it keeps quiet."""

import json
import os
import subprocess
import sys

import pytest

from sleeplm_jax.training import provenance
from sleeplm_jax.training.provenance import code, versions, write_launch
from tests.training.tiny import get_config


@pytest.fixture
def checkout(tmp_path):
    """A repository with a package of one file; a function that calls git in it."""
    top = tmp_path / "checkout"
    (top / "package").mkdir(parents=True)
    (top / "package" / "a.py").write_text("x = 1\n")

    def git(*arguments):
        return subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(top),
                               *arguments], check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "one")
    return top, git


def test_a_clean_checkout_is_its_commit(checkout):
    top, git = checkout
    found = code(top / "package")
    assert found.named == found.commit == git("rev-parse", "HEAD").strip()
    assert found.diff == b"" and found.untracked == ()


def test_changes_are_kept_so_that_they_can_be_applied(checkout, tmp_path):
    """Staged or not, from the top of the repository, whatever git is set to show."""
    top, git = checkout
    (top / "b.py").write_text("y = 1\n")
    git("add", "b.py")
    (top / "package" / "a.py").write_text("x = 'größer'\n")
    git("config", "diff.noprefix", "true")
    git("config", "color.diff", "always")
    found = code(top / "package")
    assert found.named == found.commit + "+changes"
    git("config", "--unset", "diff.noprefix")
    git("stash", "-q")
    (tmp_path / "it.diff").write_bytes(found.diff)
    git("apply", str(tmp_path / "it.diff"))
    assert (top / "package" / "a.py").read_text() == "x = 'größer'\n"
    assert (top / "b.py").read_text() == "y = 1\n"


def test_of_files_that_git_does_not_know_only_code_is_named(checkout):
    """A recording may be called after a person."""
    top, _ = checkout
    for name in ("Doe_John.edf", "new.py", "package/größe 2.py", "notes.txt", "ignored.py"):
        (top / name).write_text("")
    (top / ".gitignore").write_text("ignored.py\n")
    assert set(code(top / "package").untracked) == {"new.py", "package/größe 2.py"}


def test_a_package_in_somebody_elses_repository_has_no_commit(checkout, tmp_path):
    top, _ = checkout
    (top / "venv" / "package").mkdir(parents=True)
    (top / "venv" / "package" / "a.py").write_text("")
    assert code(top / "venv" / "package") is None
    assert code(tmp_path) is None and code(tmp_path / "none") is None


def test_versions_are_those_of_what_is_required():
    import jax

    found = versions()
    assert found["jax"] == jax.__version__ and found["jaxlib"] == jax.lib.__version__
    assert {"flax", "optax", "grain", "orbax-checkpoint", "numpy"} <= set(found)
    assert "pip" not in found


def test_each_start_leaves_a_file(checkout, tmp_path, monkeypatch):
    top, _ = checkout
    (top / "package" / "a.py").write_text("x = 2\n")
    (top / "new.py").write_text("")
    state = code(top / "package")
    monkeypatch.setattr(provenance, "code", lambda: state)
    monkeypatch.setattr(sys, "argv", ["sleeplm", "train", "x.py", "--steps", "3"])
    monkeypatch.setenv("SOME_TOKEN", "hush-hush")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    config = get_config()
    write_launch(tmp_path / "run", config, 40)
    [about] = (tmp_path / "run" / "launches").glob("*-step40.json")
    text = about.read_text()
    said = json.loads(text)
    assert said["config"]["steps"] == config.steps and said["step"] == 40
    assert said["command"] == ["sleeplm", "train", "x.py", "--steps", "3"]
    assert said["git_commit"] == state.commit + "+changes"
    assert said["code"]["untracked"] == ["new.py"]
    assert about.with_name(said["code"]["diff"]).read_bytes() == state.diff
    assert said["hardware"]["backend"] == "cpu" and said["hardware"]["cpus"] == os.cpu_count()
    assert said["variables"]["SLURM_RESTART_COUNT"] == "2"
    assert "hush" not in text and os.environ["PATH"] not in text


def test_a_long_diff_is_cut_and_says_so(tmp_path, monkeypatch):
    state = provenance.Code("c" * 40, b"+" * 5000, ())
    monkeypatch.setattr(provenance, "code", lambda: state)
    monkeypatch.setattr(provenance, "DIFF_BYTES", 1000)
    write_launch(tmp_path, get_config(), 0)
    [about] = (tmp_path / "launches").glob("*.json")
    found = json.loads(about.read_text())["code"]
    assert found["diff_cut"] and found["diff_bytes"] == 5000
    assert len(about.with_name(found["diff"]).read_bytes()) == 1000
