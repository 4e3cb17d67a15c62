"""Thousands of damaged files, in a process of its own whose memory is bounded."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.recordings.fuzz import mutated

ROOT = Path(__file__).resolve().parents[2]
# What reading at most a few minutes of signals may take, libraries and interpreter included.
MOST_MB = 1500


def fuzz(*arguments, timeout):
    run = subprocess.run(
        [sys.executable, "-m", "tests.recordings.fuzz", *map(str, arguments)], cwd=ROOT,
        capture_output=True, text=True, timeout=timeout, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout[run.stdout.index("{"):])


def test_every_damaged_file_is_read_or_refused_in_one_line(request):
    """`pytest tests/recordings/test_fuzz.py --fuzz-cases 100000` for longer."""
    cases = request.config.getoption("--fuzz-cases")
    named = os.environ.get("SLEEPLM_PSG")
    psg = Path(named) if named else ROOT.parent / "shared" / "psg"
    real = ["--psg", psg] if psg.is_dir() else []
    found = fuzz("--cases", cases, *real, timeout=300 + cases / 10)
    assert not found["faults"], "\n".join(found["faults"][:10])
    assert not found["refused_intact"], "nothing would be learnt from damaging these"
    assert found["cases"] == cases and found["peak_mb"] < MOST_MB
    # The mutations are neither all harmless nor all fatal, for recordings and scorings alike.
    for suffix in ("edf", "xml", "yaml", "tsv", "arousal"):
        assert found["counts"][f"{suffix} read"] > 0 < found["counts"][f"{suffix} refused"]


def test_a_fault_would_be_seen(tmp_path, monkeypatch):
    """The harness itself: a reader that raises anything else, or lies, is reported."""
    from tests.recordings import fuzz as harness

    monkeypatch.setattr(harness, "check_recording", lambda path: 1 / 0)
    for name in ("check_scoring", "check_montage", "check_participants"):
        monkeypatch.setattr(harness, name, lambda path: 1 / 0)
    found = harness.run(20, 0, None)
    assert len(found["faults"]) == 20 and "ZeroDivisionError" in found["faults"][0]


def test_mutations_are_repeatable_and_change_the_file():
    import numpy as np

    data = bytes(range(256)) * 8
    first = [mutated(data, True, np.random.default_rng([1, i])) for i in range(50)]
    again = [mutated(data, True, np.random.default_rng([1, i])) for i in range(50)]
    assert first == again and sum(m != data for m in first) > 40
