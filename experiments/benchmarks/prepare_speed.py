"""How fast a night becomes tensors, against a plain MNE path in the same run.

    python experiments/benchmarks/prepare_speed.py [--hours 8] [--repeat 3] [--out speed.json]

Writes one EDF of 30 signals (a simulated night's twelve channels at a clinical recorder's mixed
rates, and 18 more leads beside them), then times, each in a fresh process on one core:

- ours: `prepare_night` (read, filter, resample, scale, mask) of the ten channels of a sample;
- ours, whole: the same with artefacts, measurements and the night file;
- MNE, ten: `read_raw_edf(include=the same ten labels, preload=True)`, `resample(64)`, 30-s epochs;
- MNE, all: the same with all 30 signals loaded, as one does who does not know the labels.

MNE's path neither filters nor scales, so ours does more. About 8 minutes for 8 hours on one core.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

# label -> (rate of the simulator's signal is brought to, Hz); NOX and Compumedics recorders'
RATES = {"ECG": 512, "ABD": 32, "THX": 32, "AF": 64, "E1-M2": 256, "E2-M1": 256, "C3-M2": 256,
         "C4-M1": 256, "Chin": 256, "Position": 1, "HR": 1, "SpO2": 1}
TEN = tuple(RATES)[:10]
MORE = 18  # signals nobody asked for
EPOCH_S, TARGET_HZ = 30, 64


def write_night(path: Path, hours: float, seed: int = 0) -> None:
    """A simulated night as an EDF of 30 signals at 1 to 512 Hz."""
    import edfio
    from scipy import signal

    from sleeplm_jax.recordings.simulator.night import simulate

    night = simulate(0, int(hours * 120) * EPOCH_S, seed)
    rng = np.random.default_rng(seed)
    signals = []

    def put(label, values, rate, unit, limit):
        values = np.clip(values, *limit)
        signals.append(edfio.EdfSignal(values, rate, label=label, physical_dimension=unit,
                                       physical_range=limit, digital_range=(-32768, 32767)))

    by_label = {one.label: one for one in night.signals}
    for label, rate in RATES.items():
        one = by_label[label]
        values = one.values
        if rate != one.rate:
            values = signal.resample_poly(values, rate, one.rate)
        put(label, values, rate, one.unit, one.limit)
    leads = [s for s in signals if s.label in ("C3-M2", "C4-M1", "E1-M2", "E2-M1")]
    for number in range(MORE):
        rate = (256, 256, 512)[number % 3]
        values = leads[number % len(leads)].data
        if rate == 512:
            values = np.repeat(values, 2)
        values = values + rng.normal(0, 2, len(values)).astype(np.float32)
        put(f"X{number + 1}", values, rate, "uV", (-800.0, 800.0))
    edfio.Edf(signals, data_record_duration=1).write(path)


def ours(path: Path, whole: bool) -> dict:
    """Seconds by part: reading, filtering and resampling, the rest; `whole` also what follows."""
    from sleeplm_jax.recordings import prepare
    from sleeplm_jax.recordings import signals as dsp
    from sleeplm_jax.recordings.recording import Recording

    spent: dict[str, float] = {}

    def timed(owner, name, part):
        inner = getattr(owner, name)

        def outer(*arguments, **named):
            began = time.perf_counter()
            try:
                return inner(*arguments, **named)
            finally:
                spent[part] = spent.get(part, 0.0) + time.perf_counter() - began

        setattr(owner, name, outer)

    timed(Recording, "read", "reading")
    timed(dsp, "band_pass", "filtering")
    timed(dsp, "to_rate", "resampling")
    began = time.perf_counter()
    night = prepare.prepare_night(path, scoring=None)
    spent["tensors, in all"] = time.perf_counter() - began
    if whole:
        from sleeplm_jax.corpus.nightfile import write_night as write
        from sleeplm_jax.physiology.artefacts import mark_artefacts
        from sleeplm_jax.physiology.measure import measure_night
        from sleeplm_jax.physiology.quality import quality_record

        before = time.perf_counter()
        night = mark_artefacts(night)
        records = measure_night(night)
        quality_record(night, records)
        spent["features"] = time.perf_counter() - before
        before = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            write(night, records, Path(folder) / "night.npz")
        spent["writing"] = time.perf_counter() - before
        spent["whole, in all"] = time.perf_counter() - began
    spent["shape"] = list(night.signals.shape)
    return spent


def mnes(path: Path, all_signals: bool) -> dict:
    """Seconds of reading, resampling and cutting with MNE."""
    import mne

    mne.set_log_level("ERROR")
    began = time.perf_counter()
    chosen = {} if all_signals else {"include": list(TEN)}
    raw = mne.io.read_raw_edf(path, preload=True, **chosen)
    read = time.perf_counter()
    raw.resample(TARGET_HZ)
    resampled = time.perf_counter()
    shape = mne.make_fixed_length_epochs(raw, EPOCH_S, preload=True).get_data().shape
    done = time.perf_counter()
    return {"reading": read - began, "resampling": resampled - read, "epochs": done - resampled,
            "in all": done - began, "shape": list(shape)}


WAYS = {
    "ours": lambda path: ours(path, whole=False),
    "ours, whole": lambda path: ours(path, whole=True),
    "MNE, ten": lambda path: mnes(path, all_signals=False),
    "MNE, all": lambda path: mnes(path, all_signals=True),
}


def one(way: str, path: Path) -> None:
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        found = WAYS[way](path)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(found | {"peak MB": round(peak)}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, default=8.0)
    parser.add_argument("--repeat", type=int, default=3, help="best of so many runs")
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options.one[0], Path(options.one[1]))
        return
    results: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "night.edf"
        write_night(path, options.hours)
        print(f"{path.stat().st_size / 1e6:.0f} MB, {len(RATES) + MORE} signals, "
              f"{options.hours:g} h (simulated)", flush=True)
        for _ in range(options.repeat):
            for way in WAYS:  # in turn, so that a busy machine hurts all alike
                run = subprocess.run([sys.executable, __file__, "--one", way, str(path)],
                                     capture_output=True, text=True)
                if run.returncode:
                    raise SystemExit(f"{way}: {run.stderr[-2000:]}")
                found = json.loads(run.stdout.splitlines()[-1])
                total = "tensors, in all" if way == "ours" else (
                    "whole, in all" if way == "ours, whole" else "in all")
                found["total"] = found[total]
                if way not in results or found["total"] < results[way]["total"]:
                    results[way] = found
                print(f"  {way}: {found['total']:.2f} s", flush=True)
    reference = results["ours"]["total"]
    print(f"\n{'':14}{'s':>8}{'h per core-s':>14}{'of ours':>9}{'peak MB':>9}")
    for way, found in results.items():
        print(f"{way:14}{found['total']:8.2f}{options.hours / found['total']:14.2f}"
              f"{found['total'] / reference:9.2f}{found['peak MB']:9}")
    for way in ("ours", "ours, whole"):
        found = results[way]
        parts = ("reading", "filtering", "resampling", "features", "writing")
        shares = {p: found[p] / found["total"] for p in parts if p in found}
        shares["rest"] = 1 - sum(shares.values())
        print(f"{way}: " + ", ".join(f"{p} {100 * s:.0f} %" for p, s in shares.items()))
    if options.out:
        options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
