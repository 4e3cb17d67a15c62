"""What the measurements of an 8-hour night cost, part by part, and what rendering costs.

    python experiments/benchmarks/caption_speed.py [--hours 8]

One simulated night, its EEGs also under the names F3, F4, O1 and O2, so that all nineteen
canonical channels are there. CPU seconds of one thread (imports of YASA and SleepECG apart),
beside the wall time and the machine's load.
"""

from __future__ import annotations

import argparse
import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # before numpy

import dataclasses  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from collections import Counter  # noqa: E402
from contextlib import contextmanager  # noqa: E402

import numpy as np  # noqa: E402

from sleeplm_jax.captions.record import caption_keys  # noqa: E402
from sleeplm_jax.captions.render import render  # noqa: E402
from sleeplm_jax.captions.windows import course_of, measure_window, windows_of  # noqa: E402
from sleeplm_jax.captions.wording import STYLES  # noqa: E402
from sleeplm_jax.config import CAPTION_KINDS  # noqa: E402
from sleeplm_jax.physiology import (  # noqa: E402
    breathing,
    heart,
    measure,
    measure_brain,
    measure_breaths,
    muscle,
    spectral,
)
from sleeplm_jax.recordings.prepare import prepare_night  # noqa: E402
from sleeplm_jax.recordings.simulator import simulate_night  # noqa: E402

FURTHER = {"F3": "C3", "F4": "C4", "O1": "C3", "O2": "C4"}
# (module, function, part of the table): called inside of one another, each counts without the rest.
PARTS = (
    (measure_brain, "resampled", "EEG, EOG to 100 Hz"),
    (spectral, "high_passed", "high-pass of EEG, EOG"),
    (spectral, "eeg_powers", "EEG band powers, 6 channels"),
    (spectral, "eog_powers", "EOG band powers, 2 channels"),
    (measure_brain, "spindles", "spindles, C3 and C4"),
    (measure_brain, "k_complexes", "K complexes, 4 channels"),
    (measure_brain, "slow_waves", "slow waves, 4 channels"),
    (measure_brain, "alpha_share", "alpha share, O1 and O2"),
    (measure_brain, "rapid_eye_movements", "rapid eye movements"),
    (measure_brain, "slow_eye_movements", "slow eye movements"),
    (measure_brain, "blinks", "blinks"),
    (measure, "eyes_against", "the eyes in the EEG"),
    (heart, "beat_times", "R peaks"),
    (breathing, "measure_breathing", "breathing, 3 channels"),
    (measure_breaths, "belt_phase", "phase of the belts"),
    (measure, "polarity", "polarity of the belts"),
    (measure, "flow_flatness", "flatness of the flow"),
    (muscle, "measure_chin", "chin EMG"),
    (measure, "usable", "usable epochs"),
)


@contextmanager
def timed(spent: Counter):
    """CPU seconds of PARTS, each less what it calls of the others."""
    stack: list[float] = []

    def wrapper(function, part):
        def call(*args, **kwargs):
            stack.append(0.0)
            start = time.process_time()
            out = function(*args, **kwargs)
            took = time.process_time() - start
            spent[part] += took - stack.pop()
            if stack:
                stack[-1] += took
            return out

        return call

    kept = [(module, name, getattr(module, name)) for module, name, _ in PARTS]
    for module, name, part in PARTS:
        setattr(module, name, wrapper(getattr(module, name), part))
    try:
        yield
    finally:
        for module, name, function in kept:
            setattr(module, name, function)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, default=8.0)
    hours = parser.parse_args().hours
    with tempfile.TemporaryDirectory() as folder:
        night = prepare_night(simulate_night(folder, 3, hours, 11))
        traces, how = dict(night.traces), dict(night.channels)
        for channel, copied in FURTHER.items():
            traces[channel], how[channel] = traces[copied], how[copied]
        nasal = dataclasses.replace(how["AF"], transducer="nasal_pressure")
        night = dataclasses.replace(night, traces=traces, channels={**how, "AF": nasal})
        warm = prepare_night(simulate_night(folder, 4, 0.5, 11))
    start = time.process_time()
    measure.measure_night(warm)  # imports
    print(f"imports and half an hour: {time.process_time() - start:.1f} s")
    spent: Counter = Counter()
    start, wall = time.process_time(), time.perf_counter()
    with timed(spent):
        records = measure.measure_night(night)
    whole, wall = time.process_time() - start, time.perf_counter() - wall
    spent["the rest: records, curves, events"] = whole - sum(spent.values())
    for part, took in spent.most_common():
        print(f"| {part} | {took:.2f} |")
    print(f"| all | {whole:.1f} |")
    print(f"{len(records)} epochs, wall {wall:.1f} s, load {os.getloadavg()[0]:.1f} on "
          f"{os.cpu_count()} cores")
    rng = np.random.default_rng(0)
    for style in STYLES:
        for kind in CAPTION_KINDS:
            render(records[0], kind, rng, style)  # the templates are read
        start = time.process_time()
        for record in records:
            for kind in CAPTION_KINDS:
                render(record, kind, rng, style)
        took = time.process_time() - start
        print(f"{style}: {1000 * took / len(records):.2f} ms for the five captions of an epoch")
    start = time.process_time()
    for record in records:
        caption_keys(record)
    print(f"keys: {1000 * (time.process_time() - start) / len(records):.2f} ms an epoch")
    start = time.process_time()
    course = course_of(night, records)
    windows = [measure_window(course, window) for window in windows_of(course)]
    print(f"{len(windows)} windows: {time.process_time() - start:.2f} s, the R peaks with them")


if __name__ == "__main__":
    main()
