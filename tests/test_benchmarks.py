"""The model benchmarks at a toy size: every side runs, and does the same work as the others."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed (extra torch)")
BENCHMARKS = Path(__file__).parents[1] / "experiments" / "benchmarks"


def run(name, *arguments, **environment):
    # Unoptimised code compiles in a fraction of the time, and speed is not what is tested.
    environment = {"XLA_FLAGS": "--xla_backend_optimization_level=0"} | environment
    return subprocess.run(
        [sys.executable, str(BENCHMARKS / f"{name}.py"), *arguments], capture_output=True,
        text=True, env=os.environ | environment, timeout=300,
    )


SMALL = ("--preset", "sleeplm-1m", "--small", "--quick")


@pytest.mark.slow
def test_both_sides_take_the_same_training_steps(tmp_path):
    done = run("model_training_step", *SMALL, "--batch", "2", "--json", str(tmp_path / "f.json"))
    assert done.returncode == 0, done.stderr
    sides = json.loads((tmp_path / "f.json").read_text())["sides"]
    assert set(sides) == {"ours", "eager"} and "PyTorch eager" in done.stdout
    ours, theirs = (sides[name]["about"]["losses"] for name in ("ours", "eager"))
    # Float32 sums in another order, over three updates of every parameter: 1e-6 is seen.
    assert ours == pytest.approx(theirs, rel=1e-4)
    assert ours[0] - ours[2] > 100 * abs(ours[2] - theirs[2])  # and the updates did something
    for side in sides.values():
        assert side["samples_s"] > 0 and side["peak_bytes"] > 10**8


@pytest.mark.slow
def test_both_sides_write_the_same_captions(tmp_path):
    done = run("model_captioning", *SMALL, "--tokens", "8", "--epochs", "3", "--json",
               str(tmp_path / "f.json"), SLEEPLM_TORCH="")
    assert done.returncode == 0, done.stderr
    sides = json.loads((tmp_path / "f.json").read_text())["sides"]
    assert sides["eager"]["equal_tokens"] == 1.0
    assert "names no checkout" in sides["official"]["absent"]
    assert set(sides["ours"]["cells"]) == {"text", "epoch", "night"}


def test_gpu_figures_are_refused_in_one_line_without_a_gpu(tmp_path):
    done = run("gpu_bench", "--out", str(tmp_path / "out"), JAX_PLATFORMS="cpu")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("no GPU: ") and not (tmp_path / "out").exists()
