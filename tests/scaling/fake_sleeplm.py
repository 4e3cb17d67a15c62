"""Stands in for `sleeplm` where only the running of commands is tested: fake_sleeplm.py ARGUMENTS.

BEHAVIOUR (a JSON file) says what the training of a cell does: done, failed, killed (the first
time), hungry (killed each time), broken (no status), submitted (nothing yet), slow. Its measuring:
unmeasurable, interrupted (the first time), diverged (a loss that is no number).
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

arguments = sys.argv[1:]
behaviours = json.loads(Path(os.environ["BEHAVIOUR"]).read_text())
with open(os.environ["CALLS"], "a") as file:
    file.write(json.dumps(arguments) + "\n")


def after(name):
    return arguments[arguments.index(name) + 1]


def status(folder, **values):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "status.json").write_text(json.dumps({"time": time.time(), **values}))


if arguments[0] == "train":
    name = after("--name")
    folder = Path(after("--out")) / name
    behaviour = behaviours.get(name, "done")
    if behaviour == "failed":
        status(folder, state="failed", why="out of memory")
        print("sleeplm: out of memory", file=sys.stderr)
        sys.exit(1)
    if behaviour == "broken":
        print("sleeplm: data.corpus: there is none", file=sys.stderr)
        sys.exit(2)
    if behaviour == "hungry" or behaviour == "killed" and not (folder / "status.json").exists():
        status(folder, state="running", loss=1.0)
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour == "submitted":
        print("Submitted batch job 17")
        sys.exit(0)
    if behaviour == "slow":
        def stop(number, frame):
            status(folder, state="stopped")
            sys.exit(128 + number)
        signal.signal(signal.SIGTERM, stop)
        status(folder, state="running", loss=1.0)
        time.sleep(30)
    status(folder, state="done", loss=1.0)
else:
    assert arguments[:2] == ["scaling", "measure"]
    from sleeplm_jax.scaling.cells import Folder

    if behaviours.get(arguments[3]) == "unmeasurable":
        print("sleeplm: test split is empty", file=sys.stderr)
        sys.exit(2)
    mark = Path(after("--out")) / "interrupted"
    if behaviours.get(arguments[3]) == "interrupted" and not mark.exists():
        mark.touch()
        sys.exit(130)
    about = json.loads((Path(after("--out")) / "runs" / arguments[3] / "cell.json").read_text())
    Folder(Path(after("--out"))).add(about | {
        "status": "done", "corpus": "c" * 64, "held_out": os.environ.get("HELD_OUT", "h"),
        "losses": {"caption": float("nan") if behaviours.get(arguments[3]) == "diverged" else 1.0},
    })
