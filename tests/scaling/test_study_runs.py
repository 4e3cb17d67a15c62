"""The road of a study, really walked: two cells trained by commands, measured, drawn."""

import json
import os
import subprocess
import sys

import pytest

from tests.scaling.studies import study_file

SOURCE = """
import dataclasses, runpy
from sleeplm_jax.scaling.study import Grid

def get_study():
    tiny = runpy.run_path({path!r})["get_study"]()
    return dataclasses.replace(tiny, grids=(Grid(budgets=(1e9, 2e9), sizes=("wide",)),))
"""


def sleeplm(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "sleeplm_jax.cli", *map(str, arguments)], capture_output=True,
        text=True, timeout=300, env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )


@pytest.mark.slow
def test_a_study_runs_goes_on_and_is_drawn(corpus_folder, tmp_path):
    (tmp_path / "two").mkdir()
    file = study_file(tmp_path / "two", SOURCE.format(path=str(study_file(tmp_path))))
    out = tmp_path / "study"
    arguments = (file, "--out", out, "--corpus", corpus_folder)
    launcher = f"env TOLD={{cell}} {sys.executable} -c " + (
        '"import os, sys, subprocess; '
        "open('launched', 'a').write(os.environ['TOLD'] + chr(10)); "
        'sys.exit(subprocess.call(sys.argv[1:]))" {command}'
    )
    first = sleeplm("scaling", "run", *arguments, "--only", "wide-1e09-all-s0")
    assert first.returncode == 0, first.stderr + first.stdout
    second = subprocess.run(
        [sys.executable, "-m", "sleeplm_jax.cli", "scaling", "run", *map(str, arguments),
         "--launcher", launcher],
        capture_output=True, text=True, timeout=300, cwd=tmp_path,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )
    assert second.returncode == 0, second.stderr + second.stdout
    assert "2 cells done, 0 left" in second.stdout
    assert (tmp_path / "launched").read_text() == "wide-2e09-all-s0\n"  # the first was done

    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert [row["cell"] for row in rows] == ["wide-1e09-all-s0", "wide-2e09-all-s0"]
    config = json.loads((out / "runs" / rows[1]["cell"] / "config.json").read_text())
    for row in rows:
        assert set(row["losses"]) >= {"caption", "contrastive", "zero_shot_error", "total"}
        assert row["cost"]["cpu_s"] > 0 and row["cost"]["attempts"] == 1
        assert row["samples"] == row["steps"] * row["batch_size"]
    assert config["steps"] == rows[1]["steps"]
    assert len({(row["corpus"], row["held_out"]) for row in rows}) == 1
    drawn = sleeplm("scaling", "report", out)
    assert drawn.returncode == 0, drawn.stderr
    assert "wide-2e09-all-s0" in (out / "report.html").read_text()
