"""Every real annotation file: class counts equal to those counted from the bytes by other means."""

import collections
import datetime
import gzip
import json
import re
import struct

import numpy as np
import pytest

from sleeplm_jax.config import MOVEMENT, UNSCORED
from sleeplm_jax.recordings.night import Dialect
from sleeplm_jax.recordings.scoring import read_scoring

W, N1, N2, N3, R = range(5)


def counts(stages) -> dict[int, int]:
    return dict(collections.Counter(np.asarray(stages).tolist()))


def mapped(codes, meaning) -> dict[int, int]:
    """Counter of codes -> counter of stages."""
    out = collections.Counter()
    for code, count in collections.Counter(codes).items():
        out[meaning[code]] += count
    return dict(out)


def kinds(scoring) -> dict[str, int]:
    return dict(collections.Counter(event.kind for event in scoring.events))


def test_21_sleep_edf_hypnograms(psg):
    paths = sorted((psg / "sleepedf_hypnograms" / "edf").glob("*-Hypnogram.edf"))
    paths += [psg / "edfio_sleepedf_short" / "SC4001EC-Hypnogram.edf"]
    assert len(paths) == 21
    meaning = {b"W": W, b"1": N1, b"2": N2, b"3": N3, b"4": N3, b"R": R, b"?": UNSCORED}
    for path in paths:
        scoring = read_scoring(path, None)
        assert (scoring.source, scoring.rules, scoring.flags) == ("edf+", "R&K", ())
        seconds = collections.Counter()
        raw = path.read_bytes()
        for lasts, code in re.findall(rb"\+[\d.]+\x15([\d.]+)\x14Sleep stage (.)\x14", raw):
            seconds[meaning[code]] += float(lasts)
        for lasts in re.findall(rb"\+[\d.]+\x15([\d.]+)\x14Movement time\x14", raw):
            seconds[MOVEMENT] += float(lasts)
        assert counts(scoring.stages) == {s: t / 30 for s, t in seconds.items()}, path.name


def test_sleep_edf_scores_an_end_that_was_not_recorded(psg):
    """SC4001's recording lasts 79,500 s; from there a "Sleep stage ?" runs to 86,400 s."""
    path = psg / "sleepedf_hypnograms" / "edf" / "SC4001EC-Hypnogram.edf"
    assert len(read_scoring(path, None).stages) == 2880
    scoring = read_scoring(path, 79_500.0)
    assert len(scoring.stages) == 2650 and scoring.flags == ()
    assert UNSCORED not in scoring.stages


@pytest.mark.parametrize("number", ["01", "02", "03"])
def test_profusion(psg, number):
    path = psg / "nsrr_xml" / f"learn-nsrr{number}.xml"
    scoring, text = read_scoring(path, None), path.read_text()
    meaning = {"0": W, "1": N1, "2": N2, "3": N3, "4": N3, "5": R, "6": MOVEMENT, "9": UNSCORED}
    codes = re.findall(r"<SleepStage>(\d)</SleepStage>", text)
    assert counts(scoring.stages) == mapped(codes, meaning)
    scored = text[text.index("<ScoredEvents>") :]
    names = collections.Counter(re.findall(r"<ScoredEvent>.*?<Name>([^<]*)", scored, re.DOTALL))
    wordings = {
        "Hypopnea": "hypopnea", "Obstructive Apnea": "obstructive_apnea",
        "Central Apnea": "central_apnea", "Mixed Apnea": "mixed_apnea", "Arousal ()": "arousal",
        "SpO2 desaturation": "desaturation", "SpO2 artifact": "artefact",
        "Respiratory artifact": "artefact", "Unsure": "other", "RERA": "rera",
        "Proximal pH artifact": "artefact", "Periodic Breathing": "cheyne_stokes",
    }  # fmt: skip
    expected = collections.Counter()
    for name, count in names.items():
        expected[wordings[name]] += count
    assert kinds(scoring) == dict(expected)
    assert collections.Counter(e.text for e in scoring.events) == names
    falls = [e for e in scoring.events if e.kind == "desaturation"]
    assert sorted(e.value for e in falls) == sorted(
        float(v) for v in re.findall(r"<LowestSpO2>([^<]*)", scored)
    )
    assert sorted(e.depth for e in falls) == sorted(
        float(v) for v in re.findall(r"<Desaturation>([^<]*)", scored)
    )


def test_40_boas_tables(psg):
    paths = sorted((psg / "openneuro_ds005555_boas").glob("sub-*/eeg/*_events.tsv"))
    assert len(paths) == 40
    meaning = {"0": W, "1": N1, "2": N2, "3": N3, "4": R, "8": UNSCORED, "-2": UNSCORED}
    for path in paths:
        scoring = read_scoring(path, None)
        header, *body = (line.split("\t") for line in path.read_text().splitlines())
        human = "stage_hum" in header
        column = header.index("stage_hum" if human else "stage_ai")
        assert counts(scoring.stages) == mapped([row[column] for row in body], meaning), path.name
        assert scoring.provenance.scorer == ("consensus" if human else "stage_ai")
        assert ("scored_by_machine" in " ".join(scoring.flags)) == (not human)


def test_33_tables_of_several_sessions(psg):
    paths = sorted((psg / "openneuro_ds003768" / "sourcedata").glob("*.tsv"))
    assert len(paths) == 33
    meaning = {"W": W, "1": N1, "2": N2, "3": N3, "R": R}
    total = 0
    for path in paths:
        header, *body = (line.split("\t") for line in path.read_text().splitlines() if line.strip())
        session, onset, label = (
            header.index(name)
            for name in ("session", "epoch_start_time_sec", "30-sec_epoch_sleep_stage")
        )
        # One row has a space for its last tab.
        body = [row if len(row) == len(header) else [*row[:-1], *row[-1].split()] for row in body]
        for name in {row[session] for row in body}:
            rows = [row for row in body if row[session] == name]
            recording = path.name.replace("-sleep-stage.tsv", f"_{name}_eeg.edf")
            scoring = read_scoring(path, None, recording=recording)
            labels = [row[label].strip() for row in rows]
            expected = collections.Counter(
                UNSCORED if "unscorable" in text.lower() else meaning[text.split(" ")[0]]
                for text in labels
            )
            assert counts(scoring.stages) == dict(expected), (path.name, name)
            assert [int(float(row[onset])) for row in rows] == list(range(0, 30 * len(rows), 30))
            doubts = sum("uncertain" in text for text in labels)
            assert (f"uncertain_stages: {doubts}" in " ".join(scoring.flags)) == (doubts > 0)
            total += len(rows)
    assert total == 6990


def test_400_dreem_hypnograms(psg):
    paths = sorted((psg / "dreem_dod_scorers" / "scorers").glob("*/scorer_*/*.json"))
    assert len(paths) == 400
    meaning = {"-1": UNSCORED, "0": W, "1": N1, "2": N2, "3": N3, "4": R}
    for path in paths:
        scoring = read_scoring(path, None)
        assert counts(scoring.stages) == mapped(re.findall(r"-?\d+", path.read_text()), meaning)
        assert scoring.provenance.scorer == path.parent.name[-1]
        assert (scoring.source, scoring.rules) == ("dreem", "AASM")


def annotations(path):
    """(sample, note) of a WFDB annotation file, decoded here: 16-bit words, the code in the upper
    six bits (59 skip, 63 note; https://wfdb.io/spec/annotation-files.html)."""
    raw, at, sample, found = path.read_bytes(), 0, 0, []
    while at + 2 <= len(raw):
        (word,) = struct.unpack_from("<H", raw, at)
        at += 2
        code, low = word >> 10, word & 0x3FF
        if word == 0:
            break
        if code == 59:
            high, rest = struct.unpack_from("<HH", raw, at)
            sample += (high << 16) + rest
            at += 4
        elif code == 63:
            found[-1][1] = raw[at : at + low].decode("latin-1").rstrip("\0").strip()
            at += low + (low & 1)
        elif code in (60, 61, 62):
            pass
        else:
            sample += low
            found.append([sample, ""])
    return found


def test_18_slpdb_annotations(psg):
    paths = sorted((psg / "slpdb_annotations").glob("*.st"))
    assert len(paths) == 18
    meaning = {"W": W, "1": N1, "2": N2, "3": N3, "4": N3, "R": R, "M": MOVEMENT, "MT": MOVEMENT}
    # The archive's README.st: how many of which an indicator stands for.
    indicators = {
        "H": ["hypopnea"], "HA": ["hypopnea", "arousal"], "OA": ["obstructive_apnea"],
        "X": ["obstructive_apnea", "arousal"], "CA": ["central_apnea"],
        "CAA": ["central_apnea", "arousal"], "L": ["limb_movement"],
        "LA": ["limb_movement", "arousal"], "A": ["arousal"], "LL": ["limb_movement"] * 2,
        "LLL": ["limb_movement"] * 3, "LLLL": ["limb_movement"] * 4,
    }  # fmt: skip
    for path in paths:
        notes = annotations(path)
        rate, samples = (
            int(re.match(r"\S+ \d+ (\d+)\S* (\d+)", path.with_suffix(".hea").read_text())[i])
            for i in (1, 2)
        )
        assert rate == 250
        scoring = read_scoring(path, samples / rate)
        epochs, events = {}, collections.Counter()
        for sample, note in notes:
            stage, *codes = note.split()
            epochs[round(sample / 7500)] = meaning[stage]
            for code in codes:
                events.update(indicators[code])
        expected = [epochs.get(i, UNSCORED) for i in range(samples // 7500)]
        assert scoring.stages.tolist() == expected, path.name
        assert kinds(scoring) == dict(events), path.name
        assert not any(event.timed for event in scoring.events)
        assert all(event.onset % 30 == 0 and event.duration == 30 for event in scoring.events)
        late = notes[0][0] > 1
        assert ("scoring_begins_late" in " ".join(scoring.flags)) == late, path.name
        assert scoring.rules == "R&K"


def hypnograms_of_2018(psg):
    with gzip.open(psg / "physionet2018_arousals" / "hypnograms_arousals_994.jsonl.gz", "rt") as f:
        return [json.loads(line) for line in f]


def test_994_hypnograms_of_physionet_2018_as_plain_codes(psg, tmp_path):
    nights = hypnograms_of_2018(psg)
    assert len(nights) == 994
    dialect = Dialect(
        rules="AASM",
        stages=(("0", "W"), ("1", "N1"), ("2", "N2"), ("3", "N3"), ("4", "R"), ("5", "unscored")),
    )
    meaning = {"0": W, "1": N1, "2": N2, "3": N3, "4": R, "5": UNSCORED}
    path = tmp_path / "night.txt"
    for night in nights:
        path.write_text("\n".join(night["stages"]) + "\n")
        scoring = read_scoring(path, night["n_samples"] / night["sfreq"], dialect=dialect)
        expected = mapped(night["stages"], meaning)
        short = int(night["n_samples"] / night["sfreq"] / 30) - len(night["stages"])
        if short > 0:  # the signal's last whole epochs were not scored
            expected[UNSCORED] = expected.get(UNSCORED, 0) + short
        assert -1 <= short <= 1 and scoring.rules == "AASM"
        if short >= 0:
            assert counts(scoring.stages) == expected, night["record"]


@pytest.mark.parametrize("record", ["tr03-0005", "tr03-0029"])
def test_physionet_2018_annotations_agree_with_the_derived_hypnogram(psg, record):
    """The stages of the .arousal file, against those derived from the night's .mat file."""
    (night,) = (n for n in hypnograms_of_2018(psg) if n["record"] == record)
    path = psg / "physionet2018_arousals" / f"{record}.arousal"
    scoring = read_scoring(path, night["n_samples"] / 200)
    meaning = {"0": W, "1": N1, "2": N2, "3": N3, "4": R, "5": UNSCORED}
    derived = np.array([meaning[code] for code in night["stages"]])
    stages = scoring.stages[: len(derived)]
    derived = derived[: len(stages)]
    # The challenge's arrays mark epochs near the ends undefined that the annotations score.
    both = (derived != UNSCORED) & (stages != UNSCORED)
    assert both.mean() > 0.9 and (stages[both] == derived[both]).all()
    notes = collections.Counter(note for _, note in annotations(path) if note.startswith("("))
    names = {
        "(resp_centralapnea": "central_apnea", "(resp_hypopnea": "hypopnea",
        "(resp_obstructiveapnea": "obstructive_apnea", "(arousal_rera": "rera",
    }  # fmt: skip
    assert kinds(scoring) == {names[note]: count for note, count in notes.items()}
    assert all(event.timed and 3 <= event.duration < 120 for event in scoring.events)


def test_12_ucddb_files(psg):
    paths = sorted((psg / "ucddb_eeg" / "stages").glob("*_stage.txt"))
    assert len(paths) == 12
    meaning = {"0": W, "1": R, "2": N1, "3": N2, "4": N3, "5": N3, "6": UNSCORED, "7": UNSCORED,
               "8": UNSCORED}  # fmt: skip
    for path in paths:
        scoring = read_scoring(path, None)
        assert counts(scoring.stages) == mapped(path.read_text().split(), meaning), path.name
        assert (scoring.source, scoring.rules) == ("ucddb", "R&K")


def test_3_noxturnal_exports(psg):
    paths = sorted((psg / "rsleep_nox").glob("*.csv"))
    assert len(paths) == 3
    stages = {"Éveil": W, "N1": N1, "N2": N2, "N3": N3, "REM": R}
    wordings = {
        "Micro-éveil": "arousal", "Désat": "desaturation", "A. Obstructive": "obstructive_apnea",
        "A. Centrale": "central_apnea", "A. Mixte": "mixed_apnea", "Hypopnée": "hypopnea",
        "MJ": "limb_movement", "PLM": "periodic_limb_movement", "Artefact": "artefact",
        "Dos": "body_position", "Gauche": "body_position", "Droite": "body_position",
        "Debout": "body_position", "Notification": "note", "Avertissement": "note",
        "Début de l'analyse": "note",
    }  # fmt: skip
    for path in paths:
        lines = path.read_bytes().decode("utf-16").splitlines()[2:]
        names = collections.Counter(line.split(",")[2] for line in lines)
        scoring = read_scoring(path, None)
        expected = {stages[name]: names[name] for name in stages}
        found = counts(scoring.stages)
        gaps = found.pop(UNSCORED, 0)
        assert found == expected, path.name
        assert (scoring.source, scoring.rules) == ("noxturnal", "AASM")
        events = collections.Counter()
        for name, count in names.items():
            if name not in stages:  # "Rapide" is an event; what it means is not known
                events[wordings.get(name, "other")] += count
        assert kinds(scoring) == dict(events), path.name
        times = [datetime.datetime.strptime(line.split(",")[0], "%d/%m/%Y %H:%M:%S")
                 for line in lines if line.split(",")[2] in stages]  # fmt: skip
        assert len(scoring.stages) == (times[-1] - times[0]).seconds // 30 + 1
        assert ("gaps_in_scoring" in " ".join(scoring.flags)) == (gaps > 0)


def test_noxturnal_is_placed_by_the_recordings_clock(psg):
    path = psg / "rsleep_nox" / "noxturnal_events_example_unicode_2.csv"
    start = datetime.time(23, 16)  # the first stage is at 23:46:00, midnight follows
    scoring = read_scoring(path, 8 * 3600, start=start)
    assert (scoring.stages[:60] == UNSCORED).all() and scoring.stages[60] == W
    assert "scoring_begins_late: 1800 s after the recording" in scoring.flags
    fall = next(e for e in scoring.events if e.kind == "desaturation")
    assert (fall.onset, fall.duration) == (31 * 60 + 11, 9.333)  # 23:47:11
    left = next(e for e in scoring.events if e.text == "Gauche")  # 00:16:10, 2,800 s
    assert (left.onset, left.duration) == (3610, 2800)
    assert scoring.provenance.start_clock == "23:16:00"
    # A recording that starts 20 s before the scorer's grid: most of each epoch decides.
    shifted = read_scoring(path, None, start=datetime.time(23, 45, 40))
    assert any("stages_off_the_30_s_grid: 848 of 848" in flag for flag in shifted.flags)
    plain = read_scoring(path, None)
    assert shifted.stages[1:].tolist() == plain.stages.tolist()


def test_one_night_in_three_formats_is_one_night(psg):
    """ucddb018 as the archive's codes, as EDF+ annotations and as a BIDS table."""
    folder = psg / "ucddb_eeg"
    codes, notes, table = (
        read_scoring(path, 822 * 30.0)
        for path in (
            folder / "stages" / "ucddb018_stage.txt",
            folder / "ucddb018_hypnogram.edf",
            folder / "ucddb018_events.tsv",
        )
    )
    assert codes.stages.tolist() == notes.stages.tolist() == table.stages.tolist()
    assert (codes.source, notes.source, table.source) == ("ucddb", "edf+", "bids")
    assert codes.flags == notes.flags == table.flags == ()
    nsrr = Dialect(stages=(("0", "W"), ("1", "N1"), ("2", "N2"), ("3", "N3"), ("4", "N3"),
                           ("5", "R")), format="codes")  # fmt: skip
    wrong = read_scoring(folder / "stages" / "ucddb018_stage.txt", 822 * 30.0, dialect=nsrr)
    # A declared map is believed: that it is another cohort's shows in the signals, not here.
    assert (wrong.stages == codes.stages).mean() < 0.5
