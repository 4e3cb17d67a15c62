"""How much memory a worker of `sleeplm prepare` needs for one night, at its peak.

    python experiments/benchmarks/prepare_memory.py [--hours 8] [--signals 30 89]

Writes an EDF of 30 signals at 1 to 512 Hz (that of prepare_speed.py), and wider ones with more
signals at 256 and 512 Hz that nobody asked for, as a NOX recorder's 89. Each is prepared in a
fresh process by what a worker runs (`corpus.pool.prepare_one`); printed are the peak of its own
memory (what a worker must have: RssAnon), of which the libraries take a part before the first
night, the same after a third night in the process, and the peak of all resident pages, the mapped
file's among them (which the system takes back when it needs them). About 4 minutes on one core.
Needs Linux.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

FIELDS = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)  # bytes of a signal's header, field by field


def widen(source: Path, target: Path, signals: int) -> None:
    """An EDF with the signals of `source`, and its widest ones again under other labels."""
    with open(source, "rb") as reader, open(target, "wb") as writer:
        fixed = bytearray(reader.read(256))
        held, records = int(fixed[252:256]), int(fixed[236:244])
        columns = []
        for width in FIELDS:
            raw = reader.read(width * held)
            columns.append([raw[i * width : (i + 1) * width] for i in range(held)])
        counts = [int(value) for value in columns[8]]
        offsets = [2 * sum(counts[:i]) for i in range(held)]
        wide = [i for i in range(held) if columns[0][i].startswith(b"X")]
        more = [wide[k % len(wide)] for k in range(signals - held)]
        for number, width in enumerate(FIELDS):
            again = [columns[number][i] for i in more]
            if number == 0:
                again = [f"Y{k}".encode().ljust(width) for k in range(len(more))]
            columns[number] += again
        fixed[184:192] = str(256 * (signals + 1)).encode().ljust(8)
        fixed[252:256] = str(signals).encode().ljust(4)
        writer.write(bytes(fixed) + b"".join(b"".join(column) for column in columns))
        for _ in range(records):
            record = reader.read(2 * sum(counts))
            writer.write(record + b"".join(
                record[offsets[i] : offsets[i] + 2 * counts[i]] for i in more
            ))


def own() -> float:
    """The process' own resident memory (no mapped files), MiB."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon")) / 1024


class Watch(threading.Thread):
    """Notes the highest `own`, looking every 5 ms."""

    def __init__(self):
        super().__init__(daemon=True)
        self.highest = 0.0

    def run(self) -> None:
        while True:
            self.highest = max(self.highest, own())
            time.sleep(0.005)


def one(path: Path, nights: int) -> None:
    """Prepares a recording `nights` times, each anew; prints the peaks as JSON."""
    from sleeplm_jax.config import SignalSpec
    from sleeplm_jax.corpus.jobs import NightJob
    from sleeplm_jax.corpus.pool import _start_worker, prepare_one
    from sleeplm_jax.recordings.trim import Trim

    _start_worker()
    import sleeplm_jax.physiology.measure
    import sleeplm_jax.recordings.prepare  # noqa: F401

    found = {"before": own(), "nights": []}
    watch = Watch()
    watch.start()
    with tempfile.TemporaryDirectory() as folder:
        job = NightJob(path, path.stem, None, None, None, SignalSpec(), Trim(), {}, Path(folder))
        for _ in range(nights):
            outcome = prepare_one(job, None)
            if outcome.row is None:
                sys.exit(f"{path}: {outcome.finding}")
            found["nights"].append(watch.highest)
    found["resident"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, default=8.0)
    parser.add_argument("--signals", type=int, nargs="+", default=[30, 89])
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--write", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        return one(Path(chosen.one), 3)
    if chosen.write:
        from prepare_speed import write_night

        return write_night(Path(chosen.write), chosen.hours)
    with tempfile.TemporaryDirectory() as folder:
        first = Path(folder) / "night.edf"
        again = [sys.executable, __file__, "--hours", str(chosen.hours)]
        subprocess.run([*again, "--write", str(first)], check=True)  # its memory is not ours
        print("signals  file GB  libraries  1 night  3 nights  resident (MiB)")
        for signals in chosen.signals:
            path = first
            if signals != 30:
                path = Path(folder) / f"night{signals}.edf"
                widen(first, path, signals)
            said = subprocess.run(
                [*again, "--one", str(path)], check=True, capture_output=True, text=True
            ).stdout
            found = json.loads(said.splitlines()[-1])
            print(f"{signals:7d} {path.stat().st_size / 1e9:8.2f} {found['before']:10.0f} "
                  f"{found['nights'][0]:8.0f} {found['nights'][-1]:9.0f} {found['resident']:9.0f}",
                  flush=True)


if __name__ == "__main__":
    main()
