"""How well the detectors of sleep's micro-structure find what is there, and how long they take.

    python experiments/benchmarks/detectors.py [--nights 6] [--hours 3] [--seed 7] [--psg FOLDER]
                                               [--speed-hours 8] [--json FILE]

Simulates nights (without recording artefacts, whose times no detector should know), prepares them,
and compares what is found on C3 or the two EOGs with the truth that generated them: precision,
recall, error of time. Then counts on the few real pieces of `--psg` (DREAMS epochs with experts'
marks, YASA's samples, one night of UCDDB), and seconds of CPU per detector for a long night in one
process on one thread. Prints Markdown tables. Some 2 minutes on one core.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"  # before numpy: the figures are for one core

import argparse  # noqa: E402
import json  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402

from sleeplm_jax.config import STAGES  # noqa: E402
from sleeplm_jax.physiology.background import alpha_share  # noqa: E402
from sleeplm_jax.physiology.desaturations import desaturations  # noqa: E402
from sleeplm_jax.physiology.detections import Detections, resampled  # noqa: E402
from sleeplm_jax.physiology.eye_movements import (  # noqa: E402
    blinks,
    rapid_eye_movements,
    slow_eye_movements,
)
from sleeplm_jax.physiology.flow_shape import flow_flatness, inspirations  # noqa: E402
from sleeplm_jax.physiology.k_complexes import k_complexes  # noqa: E402
from sleeplm_jax.physiology.sawtooth import sawtooth_trains  # noqa: E402
from sleeplm_jax.physiology.slow_waves import slow_waves  # noqa: E402
from sleeplm_jax.physiology.spindles import spindles  # noqa: E402
from sleeplm_jax.physiology.thoracoabdominal import (  # noqa: E402
    belt_phase,
    epoch_phase,
    paradox,
)
from sleeplm_jax.physiology.vertex_waves import vertex_waves  # noqa: E402
from sleeplm_jax.recordings.night import Trace  # noqa: E402
from sleeplm_jax.recordings.prepare import prepare_night  # noqa: E402
from sleeplm_jax.recordings.simulator.cohort import code_version, simulate_night  # noqa: E402

EPOCH = 30
CLOSED = 1  # the simulator's state of wake with closed eyes
# Where in a drawn wave its extremes lie, s from the onset that the truth holds (simulator/eeg.py).
K_TROUGH, VERTEX_TROUGH, BLINK_PEAK = 0.36, 0.2, 0.2


def paired(found: np.ndarray, truth: np.ndarray, within: float) -> list[tuple[int, int]]:
    """Pairs (found, truth) of times at most `within` s apart, nearest first, each used once."""
    if not len(found) or not len(truth):
        return []
    gap = np.abs(found[:, None] - truth[None])
    order = np.stack(np.unravel_index(np.argsort(gap, axis=None), gap.shape), axis=1)
    used_found, used_truth, pairs = set(), set(), []
    for i, j in order[: int((gap <= within).sum())]:
        if i not in used_found and j not in used_truth:
            used_found.add(i)
            used_truth.add(j)
            pairs.append((int(i), int(j)))
    return pairs


def overlapping(found: Detections, begin: np.ndarray, end: np.ndarray) -> list[tuple[int, int]]:
    """Pairs (found, truth) of intervals that overlap, the longest overlap first, each used once."""
    if not len(found) or not len(begin):
        return []
    shared = np.minimum(found.end[:, None], end) - np.maximum(found.onset[:, None], begin)
    order = np.stack(np.unravel_index(np.argsort(-shared, axis=None), shared.shape), axis=1)
    used_found, used_truth, pairs = set(), set(), []
    for i, j in order[: int((shared > 0).sum())]:
        if i not in used_found and j not in used_truth:
            used_found.add(i)
            used_truth.add(j)
            pairs.append((int(i), int(j)))
    return pairs


class Score:
    """Hits, found and true of one detector over nights, and the errors of its hits."""

    def __init__(self) -> None:
        self.hit = self.found = self.true = 0
        self.time: list[float] = []
        self.wrong = np.zeros(len(STAGES), int)  # found without a truth, by stage

    def add(self, found: Detections, true: int, pairs, errors, stages: np.ndarray) -> None:
        self.hit += len(pairs)
        self.found += len(found)
        self.true += true
        self.time += list(errors)
        missed = np.ones(len(found), bool)
        missed[[i for i, _ in pairs]] = False
        of = stages[np.minimum(found.epochs()[missed], len(stages) - 1)]
        self.wrong += np.bincount(of[of >= 0], minlength=len(STAGES))[: len(STAGES)]

    def as_dict(self) -> dict:
        errors = np.array(self.time) if self.time else np.array([np.nan])
        return {
            "true": self.true, "found": self.found,
            "precision": round(self.hit / self.found, 2) if self.found else None,
            "recall": round(self.hit / self.true, 2) if self.true else None,
            "time_error_s": round(float(np.median(errors)), 2),
            "time_spread_s": round(float(np.median(np.abs(errors - np.median(errors)))), 2),
            "wrong_by_stage": dict(zip(STAGES, map(int, self.wrong))),
        }


def of_stage(found: Detections, stages: np.ndarray, stage: str) -> Detections:
    where = np.minimum(found.epochs(), len(stages) - 1)
    return found.where(stages[where] == STAGES.index(stage))


def score_night(path: Path, scores: dict[str, Score], shares: dict[str, list]) -> None:
    """Adds one simulated night to the scores."""
    night = prepare_night(path)
    truth = json.loads(path.with_suffix(".truth.json").read_text())["truth"]
    traces, stages = night.traces, np.asarray(night.stages)
    c3, c4 = resampled(traces["C3"]), resampled(traces["C4"])
    left, right = resampled(traces["EOG-L"]), resampled(traces["EOG-R"])

    def column(name: str, number: int) -> np.ndarray:
        return np.array([row[number] for row in truth[name]], float)

    def add(name, found, true, pairs, errors, wanted_stages=stages):
        scores.setdefault(name, Score()).add(found, true, pairs, errors, wanted_stages)

    found = spindles(c3)
    begin, lasts = column("spindles", 0), column("spindles", 1)
    pairs = overlapping(found, begin, begin + lasts)
    middle = found.onset + found.duration / 2
    add("spindles", found, len(begin), pairs,
        [middle[i] - begin[j] - lasts[j] / 2 for i, j in pairs])
    sleep_spindles = found

    found = slow_waves(c3)
    begin = column("slow_waves", 0)
    pairs = overlapping(found, begin, begin + 1.0)  # half waves of about half a second
    add("slow waves > 75 µV", found, len(begin), pairs,
        [found.onset[i] - begin[j] for i, j in pairs])

    found = k_complexes(c3)
    k_time, slow_time = column("k_complexes", 0) + K_TROUGH, begin + 0.25
    pairs = paired(found.peak, k_time, 0.3)
    add("K complexes", found, len(k_time), pairs, [found.peak[i] - k_time[j] for i, j in pairs])
    both = np.concatenate([k_time, slow_time])
    pairs = paired(found.peak, both, 0.35)
    shares.setdefault("K complexes that are a drawn K complex or slow wave", []).append(
        (len(pairs), len(found)))

    found = vertex_waves(c3, c4)
    at = np.array(truth["vertex_waves"], float) + VERTEX_TROUGH
    pairs = paired(found.peak, at, 0.15)
    add("vertex waves (C3 and C4)", found, len(at), pairs,
        [found.peak[i] - at[j] for i, j in pairs])

    found = sawtooth_trains(c3)
    begin, lasts = column("sawtooth_trains", 0), column("sawtooth_trains", 1)
    pairs = overlapping(found, begin, begin + lasts)
    middle = found.onset + found.duration / 2
    add("sawtooth trains", found, len(begin), pairs,
        [middle[i] - begin[j] - lasts[j] / 2 for i, j in pairs])

    found = of_stage(rapid_eye_movements(left, right), stages, "R")
    at = np.array(truth["rapid_eye_movements"], float)
    pairs = paired(found.peak, at, 0.3)
    add("rapid eye movements (in R)", found, len(at), pairs,
        [found.peak[i] - at[j] for i, j in pairs])

    found = blinks(left, right)
    at = np.array(truth["blinks"], float) + BLINK_PEAK
    pairs = paired(found.peak, at, 0.15)
    add("blinks", found, len(at), pairs, [found.peak[i] - at[j] for i, j in pairs])

    scored = [e for e in night.events if e.kind == "desaturation" and (e.depth or 0) >= 3]
    found = desaturations(traces["SpO2"])
    begin = np.array([e.onset for e in scored])
    pairs = overlapping(found, begin, np.array([e.end for e in scored]))
    add("desaturations >= 3 %", found, len(scored), pairs,
        [found.onset[i] - begin[j] for i, j in pairs])
    shares.setdefault("desaturations of the scored depth", []).append(
        (sum(found.amplitude[i] == scored[j].depth for i, j in pairs), len(pairs)))

    events = truth["respiratory_events"]
    blocked = [e for e in events if e["kind"] in ("obstructive_apnea", "mixed_apnea")]
    breaths = belt_phase(traces["THX"], traces["ABD"])
    found = paradox(breaths)
    begin = np.array([e["onset"] for e in blocked])
    end = begin + np.array([e["duration"] for e in blocked])
    pairs = overlapping(found, begin, end)
    add("paradox (obstructive, mixed apnoeas)", found, len(blocked), pairs,
        [found.onset[i] - begin[j] for i, j in pairs])
    within = overlapping(
        found, np.array([e["onset"] for e in events]),
        np.array([e["onset"] + e["duration"] for e in events]))
    shares.setdefault("paradox within any respiratory event", []).append((len(within), len(found)))

    seconds = np.zeros(len(stages) * EPOCH, int)
    for state, first, lasts in truth["state_bouts"]:
        seconds[first : first + lasts] = state
    found = slow_eye_movements(left, right)
    covered = np.zeros(len(seconds), bool)
    for a, b in zip(found.onset, found.end):
        covered[int(a) : int(np.ceil(b))] = True
    for state, name in enumerate(("W open", "W closed", "N1", "N2", "N3", "R")):
        here = seconds == state
        shares.setdefault(f"slow eye movements: seconds of {name}", []).append(
            (int((covered & here).sum()), int(here.sum())))

    alpha = alpha_share(c3, len(stages), sleep_spindles)
    mostly = (seconds.reshape(-1, EPOCH) == CLOSED).mean(axis=1)
    for name, here in (
        ("W closed (over 90 %)", mostly > 0.9),
        *((stage, (stages == code) & (mostly < 0.1)) for code, stage in enumerate(STAGES)),
    ):
        half = here & np.isfinite(alpha)
        shares.setdefault(f"alpha over half: epochs of {name}", []).append(
            (int((alpha[half] > 50).sum()), int(half.sum())))

    # The simulator's airflow is a flow; nasal pressure goes with its square.
    flow = traces["AF"]
    pressure = Trace(np.sign(flow.values) * flow.values**2, flow.rate, flow.unit)
    breaths = inspirations(pressure, "nasal_pressure")
    for kind in ("hypopnea", "rera"):
        for e in events:
            if e["kind"] == kind:
                inside = (breaths.onset > e["onset"] + 2) & (
                    breaths.end < e["onset"] + e["duration"] - 1)
                shares.setdefault(f"flatness in {kind}", []).append(
                    list(breaths.amplitude[inside]))
    quiet = np.ones(len(breaths), bool)
    for e in events:
        quiet &= (breaths.end < e["onset"]) | (breaths.onset > e["onset"] + e["duration"] + 15)
    shares.setdefault("flatness outside events", []).append(list(breaths.amplitude[quiet]))


def marked(path: Path) -> tuple[Trace, np.ndarray, np.ndarray]:
    """A DREAMS epoch and the begin and end (s) of what its expert marked."""
    from scipy.io import loadmat

    content = loadmat(path)
    rate = float(content["fs"][0, 0])
    shown = np.isfinite(content["x_ex3"][0]).astype(int)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], shown, [0]]))) / rate
    return Trace(content["x_in"][0].astype(np.float32), rate, "µV"), edges[::2], edges[1::2]


def real(psg: Path) -> list[tuple[str, str]]:
    """(piece, counts) of every real piece."""
    rows = []
    for kind, detector in (("kcomplex", k_complexes), ("spindle", spindles)):
        hit = found = true = epochs = 0
        for path in sorted((psg / "dreams_epochs").glob(f"*_{kind}.mat")):
            trace, begin, end = marked(path)
            mine = detector(trace)
            hit += len(overlapping(mine, begin, end))
            found, true, epochs = found + len(mine), true + len(begin), epochs + 1
        rows.append((f"DREAMS, {epochs} epochs of 30 s ({kind})",
                     f"{true} marked, {found} found, {hit} of them marked"))
    n2 = Trace(np.loadtxt(psg / "yasa/data_N2_spindles_15sec_200Hz.txt").astype(np.float32), 200.0,
               "µV")
    n3 = Trace(np.loadtxt(psg / "yasa/data_N3_no-spindles_30sec_100Hz.txt").astype(np.float32),
               100.0, "µV")
    for name, piece in (("YASA N2, 15 s", n2), ("YASA N3, 30 s", n3)):
        waves = slow_waves(piece)
        slow = "too short for slow waves" if waves is None else f"slow waves {len(waves)}"
        rows.append((name, f"spindles {len(spindles(piece))}, K complexes "
                     f"{len(k_complexes(piece))}, {slow}"))
    rem = np.load(psg / "yasa/data_EOGs_REM_256Hz.npz")
    pair = [Trace(row.astype(np.float32), float(rem["sf"]), "µV") for row in rem["data"]]
    counts = [len(f(*pair)) for f in (rapid_eye_movements, slow_eye_movements, blinks)]
    rows.append(("YASA EOG, 14.3 min of REM",
                 f"{counts[0]} rapid, {counts[1]} slow deflections, {counts[2]} blinks"))
    rows += ucddb(psg / "ucddb_eeg")
    return rows


def ucddb(folder: Path) -> list[tuple[str, str]]:
    """Detections a minute by scored stage on one real night (one EEG, unit unknown)."""
    import edfio

    eeg = edfio.read_edf(folder / "ucddb018_eeg.edf").signals[0]
    values = np.asarray(eeg.data, np.float32)
    samples = int(eeg.sampling_frequency * EPOCH)
    epochs = len(values) // samples
    spread = values[: epochs * samples].reshape(epochs, samples).std(axis=1)
    # The unit is not known: the median epoch is brought to a standard deviation of 20 µV.
    trace = resampled(Trace(values * (20 / np.median(spread)), eeg.sampling_frequency, "µV"))
    stages = np.full(epochs, "?", object)
    for mark in edfio.read_edf(folder / "ucddb018_hypnogram.edf").annotations:
        stages[int(mark.onset // EPOCH)] = mark.text.removeprefix("Sleep stage ")
    rows = []
    for name, detector in (("spindles", spindles), ("K complexes", k_complexes),
                           ("slow waves", slow_waves), ("sawtooth trains", sawtooth_trains),
                           ("vertex waves", vertex_waves)):
        density = detector(trace).density(epochs)
        rows.append((f"UCDDB 018, {name} a minute",
                     ", ".join(f"{s} {density[stages == s].mean():.2f}" for s in STAGES)))
    return rows


def speed(path: Path) -> dict[str, float]:
    """CPU seconds of every detector on one night."""
    night = prepare_night(path)
    traces, epochs = night.traces, len(night.stages)
    out: dict[str, float] = {}

    def timed(name, function, *arguments):
        began = time.process_time()
        result = function(*arguments)
        out[name] = out.get(name, 0.0) + time.process_time() - began
        return result

    eeg = {}
    for channel in ("C3", "C4"):
        eeg[channel] = timed("resample C3, C4, EOG to 100 Hz", resampled, traces[channel])
    eyes = [timed("resample C3, C4, EOG to 100 Hz", resampled, traces[c])
            for c in ("EOG-L", "EOG-R")]
    for channel in ("C3", "C4"):
        found = timed("spindles, C3 and C4", spindles, eeg[channel])
        timed("slow waves, C3 and C4", slow_waves, eeg[channel])
        timed("K complexes, C3 and C4", k_complexes, eeg[channel])
        timed("sawtooth trains, C3 and C4", sawtooth_trains, eeg[channel])
        timed("alpha share, C3 and C4", alpha_share, eeg[channel], epochs, found)
    timed("vertex waves, C3 with C4", vertex_waves, eeg["C3"], eeg["C4"])
    timed("rapid eye movements", rapid_eye_movements, *eyes)
    timed("slow eye movements", slow_eye_movements, *eyes)
    timed("blinks", blinks, *eyes)
    timed("flow flatness", flow_flatness, traces["AF"], "nasal_pressure", epochs)
    breaths = timed("belt phase, paradox", belt_phase, traces["THX"], traces["ABD"])
    timed("belt phase, paradox", lambda: (epoch_phase(breaths, epochs), paradox(breaths)))
    timed("desaturations", desaturations, traces["SpO2"])
    out["all of these"] = sum(out.values())
    return {name: round(seconds, 2) for name, seconds in out.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nights", type=int, default=6)
    parser.add_argument("--hours", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--speed-hours", type=float, default=8.0, help="0 leaves speed out")
    parser.add_argument("--psg", type=Path, default=os.environ.get("SLEEPLM_PSG"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    scores: dict[str, Score] = {}
    shares: dict[str, list] = {}
    began = time.process_time()
    import yasa  # noqa: F401

    imported = round(time.process_time() - began, 2)
    result: dict = {"simulator": code_version(), "nights": options.nights, "hours": options.hours}
    with tempfile.TemporaryDirectory() as folder:
        for index in range(options.nights):
            path = simulate_night(folder, index, options.hours, options.seed, artefacts=False)
            score_night(path, scores, shares)
            path.unlink()
        if options.speed_hours:
            path = simulate_night(folder, 0, options.speed_hours, options.seed + 1)
            result["speed"] = speed(path) | {"and importing YASA, once a process": imported}
    result["simulated"] = {name: score.as_dict() for name, score in scores.items()}
    result["shares"] = {}
    print(f"Simulator {result['simulator']}, {options.nights} nights of {options.hours:g} h\n")
    print("| detector | true | found | precision | recall | time error, spread (s) | "
          "wrong by stage |")
    print("|---|--:|--:|--:|--:|--:|---|")
    for name, row in result["simulated"].items():
        wrong = " ".join(f"{stage} {n}" for stage, n in row["wrong_by_stage"].items() if n)
        print(f"| {name} | {row['true']} | {row['found']} | {row['precision']} | {row['recall']} | "
              f"{row['time_error_s']}, {row['time_spread_s']} | {wrong} |")
    print("\n| what | of | share |\n|---|--:|--:|")
    for name, rows in shares.items():
        if name.startswith("flatness"):
            values = np.concatenate([np.asarray(row, float) for row in rows])
            if len(values):
                low, middle, high = np.percentile(values, [25, 50, 75])
                result["shares"][name] = [len(values), round(middle, 2)]
                print(f"| {name}: median (quartiles) | {len(values)} | "
                      f"{middle:.2f} ({low:.2f}-{high:.2f}) |")
            continue
        part, whole = np.array(rows).sum(axis=0)
        result["shares"][name] = [int(part), int(whole)]
        print(f"| {name} | {whole} | {100 * part / max(whole, 1):.0f} % |")
    if options.psg:
        result["real"] = dict(real(Path(options.psg)))
        print("\n| real piece | counts |\n|---|---|")
        for name, text in result["real"].items():
            print(f"| {name} | {text} |")
    if "speed" in result:
        print(f"\n| {options.speed_hours:g}-h night | CPU s |\n|---|--:|")
        for name, seconds in result["speed"].items():
            print(f"| {name} | {seconds} |")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
