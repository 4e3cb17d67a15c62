"""`sleeplm model show` and `list`: what a model is made of, on a terminal."""

from pathlib import Path

import pytest

from sleeplm_jax.cli import main

ROOT = Path(__file__).parents[2]


def test_show_says_parts_parameters_and_costs(capsys):
    assert main(["model", "show", "sleeplm-1m", "--arrays"]) == 0
    out = capsys.readouterr().out
    assert "1,036,297" in out  # the whole
    assert "encoder/stack" in out and "blocks/attention/q/kernel" in out and "4 x 64 x 64" in out
    assert "vit2d: 300 tokens of 64 from patches of 1 x 64" in out
    assert "without the reconstruction head" in out and "MiB a sample kept" in out


def test_show_takes_an_experiment_file(capsys):
    assert main(["model", "show", str(ROOT / "experiments" / "quickstart.py")]) == 0
    assert "10 channels x 1,920 samples (64 Hz, 30 s)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "finding"),
    [
        (["sleeplm-9t"], "'sleeplm-9t' is none; choose from sleeplm-base"),
        (["nowhere.py"], "no such experiment file"),
        (["sleeplm-1m", "--vocabulary", "0"], "--vocabulary: is 0"),
    ],
)
def test_a_mistake_is_one_line(arguments, finding, capsys):
    assert main(["model", "show", *arguments]) == 2
    said = capsys.readouterr().err
    assert finding in said and said.count("\n") == 1


def test_list_names_presets_with_their_counts(capsys, monkeypatch):
    from sleeplm_jax.models import presets

    few = {name: presets.PRESETS[name] for name in ("sleeplm-base", "sleeplm-1m")}
    monkeypatch.setattr(presets, "PRESETS", few)
    assert main(["model", "list"]) == 0
    out = capsys.readouterr().out
    assert "402,549,409" in out and "1,036,297" in out and "dual_axis 3 x 768" in out
