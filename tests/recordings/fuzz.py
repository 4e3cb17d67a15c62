"""Damaged recordings, scorings and tables by the thousand: a valid result each, or one line.

    python -m tests.recordings.fuzz --cases 5000 --seed 1 [--psg DIR]

Case i of a seed is always the same: one of the files below (real ones read in place where they
are, simulated and written ones everywhere), mutated one to six times. Prints counts as JSON and
every fault (another exception, a message of several lines, invalid tensors, more than 20 s) with
the case's number, for `--only NUMBER`. The process may not take more than MEMORY.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np

from sleeplm_jax.recordings import montage
from sleeplm_jax.recordings.header_person import SEXES
from sleeplm_jax.recordings.night import Dialect
from sleeplm_jax.recordings.recording import Recording, SignalInfo

SECONDS = 20.0  # a case may take; on an idle core the slowest takes about 1
DURATION = 36_000.0  # of the recording that a scoring is read for: the real ones differ in start
MEMORY = 6 << 30  # of addresses, libraries included; what is really used is reported
RECORDINGS = (".edf", ".bdf", ".hea", ".dat", ".h5")
# Files that are read with another one, and so must be whole while that one is damaged.
COMPANIONS = ("ucddb002_stage.txt", "record.hea", "record.dat")
NASTY = (b"", b"0", b"-1", b"1", b"99999999", b"-9999999", b"1e9", b"1e-300", b"1e308", b"nan",
         b"inf", b"-inf", b"\xff\xfe", "µ€".encode(), b"\x00" * 8, b"\n", b"%s%n", b"0x10", b"1,5",
         b"1.5", b"../../x", b"&lt;", b"24:00:00", b"99.99.99", b"EDF+D", b"EDF Annotations")


REMLOGIC = """REMlogic Event Export
Patient:\tsimulated

Sleep Stage\tPosition\tTime [hh:mm:ss]\tEvent\tDuration[s]\tLocation
W\tUnknown Position\t22:00:00\tSLEEP-S0\t30\tROC-LOC
S2\tUnknown Position\t22:00:30\tSLEEP-S2\t30\tROC-LOC
S2\tUnknown Position\t22:00:42\tMCAP-A1\t6\tC4-A1
R\tUnknown Position\t22:01:00\tSLEEP-REM\t30\tROC-LOC
"""
RESPEVT = """Time       Type   PB/CS  Duration  Low    %Drop  Snore  Arousal    Rate     Change
                                              Desaturation                 B/T

22:00:10  HYP-C             16       89.9    4.1     -     -      64.7   -5.7
22:00:40  APNEA-O           15       90.8    5.2     +     +      64.7   -7.3
"""
PARTICIPANTS = """participant_id\tage\tsex\tbmi\tpid
sub-1\t33\tF\t21.5\t7
sub-115\t89+\tn/a\tn/a\t8
"""
MONTAGE = r"""name: mine
description: a cohort of this test
extends: shhs
cohorts: [mine]
verified: true
sources: [our montage sheet]
matches:
  - {labels: [C3-M2, ECG], file: "P[0-9]*", transducer: "*"}
subject: '^(P\d+)_night\d'
family: '^(P\d)'
night: '_night(\d)'
person: '^(?P<age>\d+) (?P<sex>[MF]) '
others: {Light: room light}
scoring:
  format: codes
  rules: AASM
  stages: {0: W, 1: N1, 2: N2, 3: N3, 5: R}
  events: {Hypopnea 3%: hypopnea}
  epoch_s: 30
  flags: [two_scorers]
  citation: our scoring sheet
channels:
  C3:
    - {expr: C3 - (A1 + A2)/2, citation: ours, unit: uV, min_rate: 50}
    - {expr: C3-M2, note: where A2 is dead, citation: ours, scale: 2, polarity: -1}
  AF:
    - {expr: "[Nasal Flow]", transducer: nasal_pressure, citation: ours, occurrence: 1}
  POS:
    - {expr: Body, codes: {supine: 0, left: 1, right: 2, prone: 3, upright: [4, 5]}, citation: ours}
    - {expr: Angle, degrees: true, upright: {label: Elevation, above: 45}, citation: ours}
"""
CODES = Dialect(stages=tuple(zip("01235", ("W", "N1", "N2", "N3", "R"), strict=True)))


class Hung(BaseException):
    """Raised by the alarm; no `except Exception` on the way may swallow it."""


def real_files(psg: Path | None) -> list[Path]:
    """Small real recordings and every kind of real annotation file, in a fixed order."""
    if psg is None:
        return []
    patterns = (
        "edf_corner_cases/*.edf", "edfio_sleepedf_short/*.[be]df", "slpdb_multimodal/*.edf",
        "rsleep_nox/subject1.edf", "rsleep_nox/*.csv", "nsrr_xml/*.xml",
        "sleepedf_hypnograms/edf/SC400*.edf", "openneuro_ds005555_boas/sub-1*/eeg/*_events.tsv",
        "openneuro_ds003768/sourcedata/*0[1-3]*stage.tsv", "slpdb_annotations/*1*.st",
        "ucddb_eeg/stages/*.txt", "dreem_dod_scorers/scorers/dodh/scorer_1/*0*.json",
        "resmed_cpap/*SAD.edf", "physionet2018_arousals/*.arousal",
        "openneuro_ds005555_boas/participants.tsv",
    )
    return [path for pattern in patterns for path in sorted(psg.glob(pattern))[:6]]


def written_files(folder: Path) -> list[Path]:
    """Four simulated minutes, their night's XML, and a scoring file of each further format."""
    import edfio

    from sleeplm_jax.recordings.simulator import simulate_cohort

    simulated = simulate_cohort(folder / "simulated", 1, hours=0.5, seed=5, workers=1)
    for path in simulated:  # half an hour would make every case slow
        edf = edfio.read_edf(path)
        edf.slice_between_seconds(0, 240)
        edf.write(path)
    text = {
        "night-nsrr.xml":
            '<?xml version="1.0"?><PSGAnnotation><SoftwareVersion>x</SoftwareVersion>'
            "<EpochLength>30</EpochLength><ScoredEvents>"
            "<ScoredEvent><EventType>Stages|Stages</EventType><EventConcept>Stage 2 sleep|2"
            "</EventConcept><Start>0</Start><Duration>120</Duration></ScoredEvent>"
            "<ScoredEvent><EventType>Respiratory|Respiratory</EventType><EventConcept>Hypopnea|"
            "Hypopnea</EventConcept><Start>12.5</Start><Duration>20</Duration><SignalLocation>"
            "AIRFLOW</SignalLocation></ScoredEvent></ScoredEvents></PSGAnnotation>",
        "hypnogram.ids": "0,60,W\n60,90,N1\n150,30,N2\n",
        "night_1.txt": "0\n0\n1\n2\n3\n5\n",
        "night_sleepscoring.txt":
            "Date, Time, Recording onset, Duration, Annotation, Linked channel\n"
            "2000-01-01, 22:00:00, 0, 30, Sleep stage W, \n"
            "2000-01-01, 22:00:30, 30, 30, Sleep stage N2, \n",
        "night.annot":
            "class\tinstance\tchannel\tstart\tstop\tmeta\n"
            "N1\t.\t.\t23:59:30\t00:00:00\t.\nN2\t.\t.\t00:00:00\t00:00:30\t.\n",
        "night.stg.txt": "Epoch\tStage\n1\t0\n2\t1\n3\t2\n",
        "sleepfm.csv": "Start,Stop,StageName,StageNumber\n0.0,60.0,Wake,0\n60.0,90.0,Stage 2,2\n",
        "stages.csv": "Start Time,Duration (seconds),Event\n22:00:00,30, Wake\n22:00:30,30, N2\n",
        "remlogic.txt": REMLOGIC,
        "ucddb002_stage.txt": "0\n2\n3\n3\n4\n1\n8\n",
        "ucddb002_respevt.txt": RESPEVT,
        "participants.tsv": PARTICIPANTS,
        "mine.yaml": MONTAGE,
    }
    packaged = Path(montage.__file__).parent / "montages"
    for name in ("stages", "mass", "isruc"):  # by another name: a packaged one is refused
        content = (packaged / f"{name}.yaml").read_text(encoding="utf-8")
        text[f"our-{name}.yaml"] = content.replace(f"name: {name}", f"name: our-{name}", 1)
    paths = list(simulated) + sorted((folder / "simulated").glob("*.xml"))
    paths += [*_written_wfdb(folder), _written_hdf5(folder)]
    for name, content in text.items():
        path = folder / name
        path.write_text(content)
        paths.append(path)
    return paths


def _written_wfdb(folder: Path) -> tuple[Path, ...]:
    import wfdb

    values = np.random.default_rng(0).normal(0, 40, (200 * 90, 2))
    wfdb.wrann("arousals", "arousal", np.array([1, 6000, 9000, 11000, 12000]), ['"'] * 5, fs=200,
               aux_note=["W", "N1", "(resp_hypopnea", "resp_hypopnea)", "N2"],
               write_dir=str(folder))
    wfdb.wrsamp("record", fs=200, units=["uV", "uV"], sig_name=["C3-M2", "ECG"], p_signal=values,
                fmt=["16", "16"], write_dir=str(folder))
    return folder / "record.hea", folder / "record.dat", folder / "arousals.arousal"


def _written_hdf5(folder: Path) -> Path:
    import h5py

    path = folder / "dreem.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("signals/eeg")
        group.attrs["fs"], group.attrs["unit"] = 100, "µV"
        group["C3_M2"] = np.random.default_rng(0).normal(0, 40, 100 * 90)
        file["hypnogram"] = np.zeros(3, int)
    return path


def mutated(data: bytes, is_edf: bool, rng: np.random.Generator) -> bytes:
    """`data` after one to six random mutations of bytes, fields, lines or length."""
    out = bytearray(data)
    for _ in range(min(6, int(rng.geometric(0.6)))):  # mostly one: many at once reach no depth
        out = _mutate(out, is_edf, rng)
    return bytes(out)


def _mutate(out: bytearray, is_edf: bool, rng: np.random.Generator) -> bytearray:
    if not out:
        return bytearray(NASTY[rng.integers(len(NASTY))])
    kind = rng.integers(8)
    n = len(out)
    at = int(rng.integers(n))
    if is_edf and kind < 4:  # a header field
        try:
            count = int(bytes(out[252:256]))
        except ValueError:
            count = 1
        header = min(n, 256 * (1 + min(max(count, 0), 100)))
        widths = (8, 4, 16, 80)
        width = int(widths[rng.integers(4)])
        at = int(rng.integers(max(1, header // width))) * width
        value = NASTY[rng.integers(len(NASTY))][:width].ljust(width)
        out[at : at + width] = value
    elif kind < 2:  # flipped bytes
        for place in rng.integers(0, n, int(rng.integers(1, 20))):
            out[place] = int(rng.integers(256))
    elif kind == 2:  # a number or a word of a text
        end = at
        while end < n and end - at < 40 and chr(out[end]) not in " \t\n,<>\"'=:;|":
            end += 1
        out[at:end] = NASTY[rng.integers(len(NASTY))]
    elif kind == 3:  # lines doubled, dropped or swapped
        lines = out.split(b"\n")
        first, second = (int(i) for i in rng.integers(0, len(lines), 2))
        if rng.random() < 0.3:
            lines[first : first + 1] = []
        elif rng.random() < 0.5:
            lines[first:first] = [lines[second]] * int(rng.integers(1, 50))
        else:
            lines[first], lines[second] = lines[second], lines[first]
        out = bytearray(b"\n".join(lines))
    elif kind == 4:
        del out[at:]
    elif kind == 5:
        length = int(rng.integers(1, 1 + min(4096, n)))
        if rng.random() < 0.5:
            del out[at : at + length]
        else:
            out[at:at] = out[max(0, at - length) : at]
    elif kind == 6:
        out += rng.bytes(int(rng.integers(1, 3000)))
    else:
        length = int(rng.integers(1, 200))
        out[at : at + length] = rng.bytes(length)
    return out


def check_recording(path: Path) -> str:
    """Reads a recording as the commands do; returns what became of it, raises for a fault."""
    from sleeplm_jax.errors import UserError
    from sleeplm_jax.recordings.inspection import inspect_recording
    from sleeplm_jax.recordings.prepare import prepare_night

    if path.suffix == ".dat":
        path = path.with_suffix(".hea")
    outcomes = []
    for call in (inspect_recording, lambda p: prepare_night(p, scoring=None)):
        try:
            found = call(path)
        except UserError as error:
            one_line(error)
            outcomes.append("refused")
            continue
        if isinstance(found, dict):
            json.dumps(found, allow_nan=False)
        else:
            epochs = len(found.stages)
            assert found.signals.shape == (epochs, *found.spec.shape), "shape"
            assert np.isfinite(found.signals).all(), "not finite"
            codes = [c == "POS" for c in found.spec.channels]
            assert (np.abs(found.signals[:, ~np.array(codes)]) <= 6).all(), "beyond 6"
            assert found.mask.any() and np.isfinite(found.scale).all(), "mask or scale"
            check_scored(found.stages, found.events)
        outcomes.append("read")
    return "read" if "read" in outcomes else "refused"


def check_scoring(path: Path) -> str:
    """Reads a scoring; returns what became of it, raises for a fault."""
    from sleeplm_jax.errors import UserError
    from sleeplm_jax.recordings.scoring import read_scoring

    if path.name.endswith("_respevt.txt"):  # read with the stages that lie beside it
        path = path.with_name(path.name.replace("_respevt", "_stage"))
    try:
        found = read_scoring(
            path, DURATION, datetime.time(22, 0, 0), CODES if path.name == "night_1.txt" else None,
            recording="sub-01_task-rest_run-1_eeg.edf" if "sleep-stage" in path.name else None,
        )
    except UserError as error:
        one_line(error)
        return "refused"
    assert len(found.stages) == DURATION // 30, "epochs"
    check_scored(found.stages, found.events)
    return "read"


def check_montage(path: Path) -> str:
    """Reads a user's montage and applies it to labels; raises for a fault."""
    from sleeplm_jax.errors import UserError
    from sleeplm_jax.recordings.montage_hash import montage_sha256
    from sleeplm_jax.recordings.montage_match import resolve
    from sleeplm_jax.recordings.montage_subjects import family_of, person_of

    labels = ("C3", "A1", "A2", "C3-M2", "Nasal Flow", "Body", "Angle", "Elevation", "ECG I")
    signals = tuple(SignalInfo(label, "uV", 100.0, -1.0, 1.0, 3000, "", "") for label in labels)
    recording = Recording(Path("P0012_night2.edf"), signals, 30.0, None, (), None)
    try:
        found = montage.load_montage(path)
        for name, resolution in resolve(recording, found).items():
            if resolution is not None:
                assert resolution.channel == name and np.isfinite(resolution.scale), "resolution"
        person = person_of(recording.path, montage=found)
        assert person.subject and person.night is None or person.night >= 0, "person"
        family_of(recording.path, montage=found)
    except UserError as error:
        one_line(error)
        return "refused"
    assert len(montage_sha256(found)) == 64, "hash"
    return "read"


def check_participants(path: Path) -> str:
    """Reads a table of participants for two recordings of it; raises for a fault."""
    from sleeplm_jax.errors import UserError
    from sleeplm_jax.recordings.montage_subjects import person_of

    outcomes = set()
    for name in ("sub-1_task-Sleep_acq-psg_eeg.edf", "sub-115_task-Sleep_acq-psg_eeg.edf"):
        for table in (None, montage.load_montage("boas")):
            try:
                person = person_of(path.with_name(name), montage=table)
            except UserError as error:
                one_line(error)
                outcomes.add("refused")
                continue
            assert person.subject and person.sex in {None, *SEXES.values()}, "person"
            known = [value for value in (person.age, person.bmi) if value is not None]
            assert all(0 <= value <= 130 for value in known), "age or BMI"
            outcomes.add("read")
    return "read" if "read" in outcomes else "refused"


def check_scored(stages, events) -> None:
    assert set(np.unique(stages)) <= {-2, -1, 0, 1, 2, 3, 4}, "stages"
    for event in events:
        assert np.isfinite([event.onset, event.duration]).all(), "event time"
        assert event.onset >= 0 and event.duration >= 0, "negative event"


def one_line(error: Exception) -> None:
    assert "\n" not in str(error) and len(str(error)) < 2000, f"message: {str(error)[:200]!r}"


def run(cases: int, seed: int, psg: Path | None, only: int | None = None,
        budget_s: float = float("inf")) -> dict:
    """Counts of outcomes by suffix, faults, slowest case, peak memory."""

    def alarm(*_):
        raise Hung

    signal.signal(signal.SIGALRM, alarm)
    # A library's warning about a damaged file is no fault, and ten thousand of them are noise.
    warnings.simplefilter("ignore")
    counts, faults, slowest, hungriest = Counter(), [], (0.0, -1), (0, -1)
    began, done = time.monotonic(), 0
    with tempfile.TemporaryDirectory() as folder:
        paths = real_files(psg) + written_files(Path(folder))
        seeds = [(p.name, p.read_bytes()) for p in paths]
        companions = {p.name: p.read_bytes() for p in paths if p.name in COMPANIONS}
        for name, data in companions.items():
            Path(folder, name).write_bytes(data)
        for header in {p.with_suffix(".hea") for p in paths if p.suffix in (".st", ".arousal")}:
            if header.is_file():  # or the annotations state their rate
                Path(folder, header.name).write_bytes(header.read_bytes())
        intact = [name for name, data in seeds if _outcome(Path(folder, name), data) != "read"]
        for number in range(cases) if only is None else [only]:
            if time.monotonic() - began > budget_s:
                break
            rng = np.random.default_rng([seed, number])
            name, data = seeds[int(rng.integers(len(seeds)))]
            is_edf = name.lower().endswith((".edf", ".bdf"))
            path = Path(folder) / name
            path.write_bytes(mutated(data, is_edf, rng))
            check = _check_of(name)
            before, peak = time.monotonic(), _peak_mb()
            try:
                signal.setitimer(signal.ITIMER_REAL, SECONDS)
                outcome = check(path)
            except Hung:
                outcome = "fault"
                faults.append(f"{number} {name}: more than {SECONDS:g} s")
            except Exception as error:
                outcome = "fault"
                last = traceback.extract_tb(error.__traceback__)[-1]
                faults.append(f"{number} {name}: {type(error).__name__}: {str(error)[:150]} at "
                              f"{Path(last.filename).name}:{last.lineno}")
                if only is not None:
                    traceback.print_exc()
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            slowest = max(slowest, (time.monotonic() - before, number))
            hungriest = max(hungriest, (_peak_mb() - peak, number))
            counts[f"{'.'.join(name.split('.')[1:])} {outcome}"] += 1
            path.unlink(missing_ok=True)
            if name in companions:
                path.write_bytes(companions[name])
            done += 1
    return {
        "seed": seed, "cases": done, "seeds": len(seeds), "real": psg is not None,
        "counts": dict(sorted(counts.items())), "faults": faults, "refused_intact": intact,
        "slowest_s": round(slowest[0], 2), "slowest_case": slowest[1],
        "seconds": round(time.monotonic() - began, 1),
        "peak_mb": _peak_mb(), "hungriest_mb": hungriest[0], "hungriest_case": hungriest[1],
    }


def _check_of(name: str):
    if name.endswith(".yaml"):
        return check_montage
    if name == "participants.tsv":
        return check_participants
    signals = name.lower().endswith(RECORDINGS) and "hypnogram" not in name.lower()
    return check_recording if signals else check_scoring


def _outcome(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    try:
        return _check_of(path.name)(path)
    except Exception as error:
        return type(error).__name__


def _peak_mb() -> int:
    """The most memory that this program has held so far, MB.

    Linux' VmHWM: ru_maxrss also counts what the process that started it held at the time.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) // 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--psg", type=Path, help="folder of real recordings")
    parser.add_argument("--only", type=int, help="run this case alone, with its traceback")
    parser.add_argument("--budget", type=float, default=float("inf"), help="stop after seconds")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    print(json.dumps(run(options.cases, options.seed, options.psg, options.only, options.budget),
                     indent=1))
    return 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
