"""Formats of which no real file is at hand, in the form that is documented; and 20-s pages."""

import datetime
import itertools

import edfio
import numpy as np
import pytest

from sleeplm_jax.config import MOVEMENT, UNSCORED
from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings.night import Dialect
from sleeplm_jax.recordings.scoring import FORMATS, SUPPORTED, format_of, read_scoring
from tests.recordings.edf_files import signal, write

W, N1, N2, N3, R = range(5)
NIGHT = datetime.time(23, 58)


def text(path, content, encoding="utf-8"):
    path.write_bytes(content.encode(encoding))
    return path


def nsrr(path, *events, clock="00.00.00 23.58.00"):
    """(type, concept, start, duration, more) as the NSRR's export writes them."""
    parts = [
        f"<ScoredEvent><EventType>{kind}</EventType><EventConcept>{concept}</EventConcept>"
        f"<Start>{start}</Start><Duration>{duration}</Duration>{more}</ScoredEvent>"
        for kind, concept, start, duration, more in events
    ]
    parts.insert(0, "<ScoredEvent><EventType/><EventConcept>Recording Start Time</EventConcept>"
                 f"<Start>0</Start><Duration>3600</Duration><ClockTime>{clock}</ClockTime>"
                 "</ScoredEvent>")  # fmt: skip
    body = "".join(parts)
    return text(
        path,
        '<?xml version="1.0" encoding="UTF-8" standalone="no"?><PSGAnnotation>'
        "<SoftwareVersion>Compumedics</SoftwareVersion><EpochLength>30</EpochLength>"
        f"<ScoredEvents>{body}</ScoredEvents></PSGAnnotation>",
    )


STAGES = "Stages|Stages"


def test_nsrr_of_the_new_vocabulary(tmp_path):
    path = nsrr(
        tmp_path / "a-nsrr.xml",
        (STAGES, "Wake|0", 0, 60, ""),
        (STAGES, "Stage 1 sleep|1", 60, 30, ""),
        (STAGES, "Stage 2 sleep|2", 90, 60, ""),
        (STAGES, "Stage 3 sleep|3", 150, 30, ""),
        (STAGES, "REM sleep|5", 180, 30, ""),
        (STAGES, "Movement|6", 210, 30, ""),
        (STAGES, "Unscored|9", 240, 30, ""),
        ("Respiratory|Respiratory", "Hypopnea|Hypopnea", 95.5, 20.1,
         "<SignalLocation>AIRFLOW</SignalLocation>"),
        ("Respiratory|Respiratory", "SpO2 desaturation|SpO2 desaturation", 100, 30,
         "<SignalLocation>SaO2</SignalLocation><SpO2Nadir>88.0</SpO2Nadir>"
         "<SpO2Baseline>95.0</SpO2Baseline>"),
        ("Arousals|Arousals", "Spontaneous arousal|Arousal (ARO SPONT)", 130, 4, ""),
        ("Respiratory|Respiratory", "Unsure|Unsure", 200, 12, ""),
    )  # fmt: skip
    scoring = read_scoring(path, 270, start=NIGHT)
    assert scoring.stages.tolist() == [W, W, N1, N2, N2, N3, R, MOVEMENT, UNSCORED]
    assert (scoring.source, scoring.rules, scoring.flags) == ("nsrr", "unknown", ())
    hypopnoea, fall, arousal, unsure = scoring.events
    assert (hypopnoea.kind, hypopnoea.onset, hypopnoea.duration) == ("hypopnea", 95.5, 20.1)
    assert (hypopnoea.channel, hypopnoea.value) == ("AIRFLOW", None)
    assert (fall.kind, fall.value, fall.depth, fall.channel) == ("desaturation", 88, 7, "SaO2")
    assert (arousal.kind, arousal.text) == ("arousal", "Spontaneous arousal|Arousal (ARO SPONT)")
    assert unsure.kind == "other"
    # MrOS' documentation: "Unsure" is a hypopnoea over 50 %.
    mros = read_scoring(path, 270, dialect=Dialect(events=(("unsure", "hypopnea"),)))
    assert [e.kind for e in mros.events].count("hypopnea") == 2
    late = read_scoring(path, 270, start=datetime.time(0, 3))
    assert late.stages.tolist() == scoring.stages.tolist()  # its times are elapsed seconds
    assert any("start_clock_differs" in flag and "-300 s" in flag for flag in late.flags)


def test_nsrr_of_the_old_vocabulary(tmp_path):
    stage = "SDO:NonRapidEyeMovementSleep-N"
    path = nsrr(
        tmp_path / "a-nsrr.xml",
        ("", "SDO:WakeState", 0, 30, ""), ("", f"{stage}1", 30, 30, ""),
        ("", f"{stage}2", 60, 30, ""), ("", f"{stage}3", 90, 30, ""),
        ("", f"{stage}4", 120, 30, ""), ("", "SDO:RapidEyeMovementSleep", 150, 30, ""),
        ("", "SDO:HypopneaFinding", 70, 12, ""), ("", "SDO:ObstructiveApneaFinding", 100, 12, ""),
        ("", "SDO:ArousalFinding", 112, 5, ""),
    )  # fmt: skip
    scoring = read_scoring(path, 180)
    assert scoring.stages.tolist() == [W, N1, N2, N3, N3, R] and scoring.rules == "R&K"
    assert [e.kind for e in scoring.events] == ["hypopnea", "obstructive_apnea", "arousal"]


@pytest.mark.parametrize("kind, concept", [
    (STAGES, "Stage 7 sleep|7"), ("", "SDO:RapidEyeMovementSleep-X"), (STAGES, "Dozing|Dozing"),
])  # fmt: skip
def test_an_nsrr_stage_of_no_known_name_is_refused(tmp_path, kind, concept):
    path = nsrr(tmp_path / "a.xml", (STAGES, "Wake|0", 0, 30, ""), (kind, concept, 30, 30, ""))
    with pytest.raises(RecordingError, match="unknown stage codes"):
        read_scoring(path, 60)


def test_rules_of_the_montage_and_of_the_file(tmp_path):
    wake = (STAGES, "Wake|0", 0, 30, "")
    plain = nsrr(tmp_path / "a.xml", wake)
    aasm = Dialect(rules="AASM 2.4", hypopnea_rule="30 % for 10 s", flags=("sleep_wake_only",))
    scoring = read_scoring(plain, 30, start=NIGHT, dialect=aasm)
    told = scoring.provenance
    assert scoring.rules == told.rules == "AASM 2.4" and told.hypopnea_rule == "30 % for 10 s"
    assert (told.start_clock, told.cohort_flags) == ("23:58:00", ("sleep_wake_only",))
    four = nsrr(tmp_path / "b.xml", wake, (STAGES, "Stage 4 sleep|4", 30, 30, ""))
    scoring = read_scoring(four, 60, dialect=aasm)
    assert scoring.rules == "R&K" and "rules_contradicted" in scoring.flags[0]


def test_dcsm_ids(tmp_path):
    path = text(tmp_path / "hypnogram.ids", "0,60,W\n60,30,N1\n90,90,N2\n180,30,N3\n210,30,REM\n"
                "240,30,UNKNOWN\n")  # fmt: skip
    scoring = read_scoring(path, 270)
    assert scoring.stages.tolist() == [W, W, N1, N2, N2, N2, N3, R, UNSCORED]
    assert (scoring.source, scoring.rules, scoring.flags) == ("ids", "AASM", ())
    spaced = text(tmp_path / "b.ids", "0 60 W\r\n60 30 N1\r\n")
    assert read_scoring(spaced, 90).stages.tolist() == [W, W, N1]
    gap = text(tmp_path / "c.ids", "0,30,W\n120,30,N2\n")
    scoring = read_scoring(gap, 150)
    assert scoring.stages.tolist() == [W, UNSCORED, UNSCORED, UNSCORED, N2]
    assert scoring.flags == ("gaps_in_scoring: 1, 90 s in all, left unscored",)


HMC = """Date, Time, Recording onset, Duration, Annotation, Linked channel
02.01.01, 23.58.00, 0, 30, Sleep stage W, 
02.01.01, 23.58.30, 30, 30, Sleep stage W, 
02.01.01, 23.58.46, 46.28, 0, Lights off@@EEG F4-A1, EEG F4-M1
02.01.01, 23.59.00, 60, 30, Sleep stage N1, 
02.01.01, 23.59.30, 90, 30, Sleep stage N2, 
03.01.01, 00.00.00, 120, 30, Sleep stage N3, 
03.01.01, 00.00.30, 150, 30, Sleep stage R, 
03.01.01, 00.01.00, 180, 30, Sleep stage ?, 
03.01.01, 00.01.12, 192, 0, Lights on, 
"""  # noqa: W291


def test_hmc_with_rows_that_are_no_stage(tmp_path):
    scoring = read_scoring(text(tmp_path / "SN001_sleepscoring.txt", HMC), 210, start=NIGHT)
    assert scoring.stages.tolist() == [W, W, N1, N2, N3, R, UNSCORED]
    assert (scoring.source, scoring.rules, scoring.flags) == ("hmc", "AASM", ())
    off, on = scoring.events
    assert (off.kind, off.text, off.onset) == ("note", "Lights off", 46.28)
    assert off.channel == "EEG F4-M1"
    assert scoring.provenance.lights_off_s == 46.28 and scoring.provenance.lights_on_s == 192
    bad = text(tmp_path / "b.txt", HMC.replace("stage N1", "stage N5"))
    with pytest.raises(RecordingError, match="Sleep stage N5"):
        read_scoring(bad, 210)


LUNA = """# arousal | arousals of all kinds
class	instance	channel	start	stop	meta
W	.	.	23:58:00	23:59:00	.
N1	.	.	23:59:00	23:59:30	.
N2	.	.	23:59:30	...	.
N3	.	.	00:00:30	00:01:00	.
R	.	.	00:01:00	+30	.
?	.	.	00:01:30	00:02:00	.
apnea_obstructive	.	Flow	23:59:50	00:00:10	.
arousal	spontaneous	.	00:00:12.5	+4.5	.
lights_off	.	.	23:58:10	23:58:10	.
"""


def test_luna_by_the_clock_across_midnight(tmp_path):
    scoring = read_scoring(text(tmp_path / "a.annot", LUNA), 240, start=NIGHT)
    assert scoring.stages.tolist() == [W, W, N1, N2, N2, N3, R, UNSCORED]
    assert (scoring.source, scoring.rules, scoring.flags) == ("luna", "AASM", ())
    lights, apnoea, arousal = scoring.events
    assert (apnoea.kind, apnoea.onset, apnoea.duration) == ("obstructive_apnea", 110, 20)
    assert apnoea.channel == "Flow"
    assert (arousal.kind, arousal.onset, arousal.duration) == ("arousal", 132.5, 4.5)
    assert lights.kind == "note" and scoring.provenance.lights_off_s == 10
    unknown = read_scoring(text(tmp_path / "b.annot", LUNA), None)
    assert unknown.stages.tolist() == scoring.stages.tolist()
    assert any("start_unknown" in flag for flag in unknown.flags)


def test_luna_of_every_form_of_time(tmp_path):
    lines = ["W\t.\t.\t0\t30\t.", "N1\t.\t.\t0+00:00:30\t0+00:01:00\t.", "N2\t.\t.\te:3\t+30\t.",
             "N3\t.\t.\t11:59:30pm\t00:00:00\t.", "stage\tREM\t.\t120.0\t150.0\t."]  # fmt: skip
    scoring = read_scoring(text(tmp_path / "a.annot", "\n".join(lines)), 150, start=NIGHT)
    assert scoring.stages.tolist() == [W, N1, N2, N3, R]
    with pytest.raises(RecordingError, match="line 2"):
        read_scoring(text(tmp_path / "b.annot", "W\t.\t.\t0\t30\nN1\t.\t.\tsoon\t60"), 150)
    with pytest.raises(RecordingError, match="line 2: '10' is no stop"):
        read_scoring(text(tmp_path / "c.annot", "W\t.\t.\t0\t30\nN1\t.\t.\t30\t10"), 150)


def pages(path, words, seconds, first=0.0):
    """An EDF+ of annotations in pages of `seconds`, as MASS has them beside its recordings."""
    notes = [edfio.EdfAnnotation(first + i * seconds, seconds, f"Sleep stage {word}")
             for i, word in enumerate(words)]  # fmt: skip
    length = int(first + len(words) * seconds)
    return write(path, [signal("x", np.zeros(length), 1)], annotations=notes)


@pytest.mark.parametrize("words, stages", [
    # Two epochs of 30 s in three pages of 20 s: each has one whole page and half of the middle
    # one, so the first and the third page decide.
    ("W2R", [W, R]), ("WW2", [W, N2]), ("122222", [N1, N2, N2, N2]),
    ("WWW1112", [W, W, N1, N1, N2]), ("W?2", [W, N2]),
])  # fmt: skip
def test_pages_of_20_s_become_epochs_of_30_s(tmp_path, words, stages):
    scoring = read_scoring(pages(tmp_path / "01-02-0001 Base.edf", words, 20), None)
    # A last epoch that pages fill by 20 s takes their stage, one by 10 s would be unscored.
    assert scoring.stages.tolist() == stages
    assert "stage_pages: scored in pages of 20 s" in scoring.flags[0]


def test_pages_of_20_s_by_brute_force(tmp_path):
    """All of 4^6 rows of six pages against counting seconds one by one; ties cannot occur."""
    letters = {"W": W, "2": N2, "R": R, "?": UNSCORED}
    from sleeplm_jax.recordings.stages import stages_from_spans

    for words in itertools.product(letters, repeat=6):
        spans = [(20.0 * i, 20.0, letters[word]) for i, word in enumerate(words)]
        stages, _ = stages_from_spans(spans, tmp_path)
        seconds = np.repeat([letters[word] for word in words], 20).reshape(4, 30)
        for stage, mine in zip(stages, seconds):
            assert (mine == stage).sum() == max((mine == s).sum() for s in letters.values())


def test_pages_that_begin_after_the_recording(tmp_path):
    scoring = read_scoring(pages(tmp_path / "a.edf", "WW2222", 20, first=8.0), 128)
    # 0-8 s unscored, W until 48 s, then N2 until 128 s.
    assert scoring.stages.tolist() == [W, W, N2, N2]
    assert any("stage_pages" in flag for flag in scoring.flags)


def test_profusion_in_pages_of_20_s(tmp_path):
    stages = "".join(f"<SleepStage>{code}</SleepStage>" for code in "025025")
    path = text(tmp_path / "a.xml", f"<CMPStudyConfig><EpochLength>20</EpochLength><SleepStages>"
                f"{stages}</SleepStages></CMPStudyConfig>")  # fmt: skip
    scoring = read_scoring(path, 120)
    assert scoring.stages.tolist() == [W, R, W, R] and "stage_pages" in scoring.flags[0]


def test_wsc_stages(tmp_path):
    rows = "".join(f"{i}\t{code}\t0\n" for i, code in enumerate("0012357", start=1))
    header = "Epoch\tUser-Defined Stage\tCAST-Defined Stage\n"
    for name, content in (("a", header + rows), ("b", rows)):
        scoring = read_scoring(text(tmp_path / f"{name}.stg.txt", content), 210)
        assert scoring.stages.tolist() == [W, W, N1, N2, N3, R, UNSCORED]
        assert scoring.source == "wsc" and "codes_not_scored: 1" in scoring.flags[0]
    # Epochs are placed by their number.
    scoring = read_scoring(text(tmp_path / "c.stg.txt", header + "3\t2\n4\t2\n"), 120)
    assert scoring.stages.tolist() == [UNSCORED, UNSCORED, N2, N2]
    assert "scoring_begins_late: 60 s after the recording" in scoring.flags


def test_sleepfm_labels(tmp_path):
    path = text(tmp_path / "a.csv", "Start,Stop,StageName,StageNumber\n0.0,60.0,Wake,0\n"
                "0.0,60.0,Wake,0\n60.0,90.0,Stage 1,1\n90.0,120.0,N2,2\n120.0,150.0,REM,4\n")
    scoring = read_scoring(path, 150)
    assert scoring.stages.tolist() == [W, W, N1, N2, R] and scoring.flags == ()


def test_stages_cohort_by_the_clock(tmp_path):
    path = text(tmp_path / "a.csv", "Start Time,Duration (seconds),Event\n"
                "23:58:00,60, Wake\n23:58:40,0, Lights Off\n23:59:00,30, Stage1\n"
                "23:59:30,60, Stage2\n00:00:10,14.5, Hypopnea\n00:00:30,30, REM\n"
                "00:01:00,30, UnknownStage\n")  # fmt: skip
    scoring = read_scoring(path, 210, start=NIGHT)
    assert scoring.stages.tolist() == [W, W, N1, N2, N2, R, UNSCORED]
    assert [(e.kind, e.onset) for e in scoring.events] == [("note", 40), ("hypopnea", 130)]
    assert scoring.provenance.lights_off_s == 40
    dated = text(tmp_path / "b.csv", "Start Time,Duration (seconds),Event\n"
                 "5/22/2018 11:58:00 PM, 30.000, Wake\n5/22/2018 11:58:30 PM, 30.000, Stage2\n")
    scoring = read_scoring(dated, 60, start=NIGHT)
    assert scoring.stages.tolist() == [W, N2]
    assert "2018" not in repr(scoring)


REMLOGIC = """REMlogic Event Export
Patient:	Somebody Unknown
Recording Date:	01/02/2003

Sleep Stage	Position	Time [hh:mm:ss]	Event	Duration[s]	Location
W	Unknown Position	23:58:00	SLEEP-S0	30	ROC-LOC
S1	Unknown Position	23:58:30	SLEEP-S1	30	ROC-LOC
S2	Unknown Position	23:59:00	SLEEP-S2	30	ROC-LOC
S2	Unknown Position	23:59:12	MCAP-A1	6	C4-A1
S4	Unknown Position	23:59:30	SLEEP-S4	30	ROC-LOC
R	Unknown Position	00:00:00	SLEEP-REM	30	ROC-LOC
MT	Unknown Position	00:00:30	SLEEP-MT	30	ROC-LOC
"""


def test_remlogic_reports_without_the_person_in_them(tmp_path):
    path = text(tmp_path / "n1.txt", REMLOGIC, "latin-1")
    scoring = read_scoring(path, 180, start=NIGHT)
    assert scoring.stages.tolist() == [W, N1, N2, N3, R, MOVEMENT]
    assert (scoring.source, scoring.rules, scoring.flags) == ("remlogic", "R&K", ())
    (phase,) = scoring.events
    assert (phase.kind, phase.onset, phase.duration, phase.channel) == ("other", 72, 6, "C4-A1")
    assert "Somebody" not in repr(scoring) and "2003" not in repr(scoring)


def test_digits_are_not_guessed(tmp_path):
    codes = "0\n1\n2\n3\n5\n"
    for name in ("1_1.txt", "p1_stage.txt", "a.txt"):
        with pytest.raises(RecordingError, match="digits mean other stages.*name the cohort"):
            read_scoring(text(tmp_path / name, codes), 150)
    isruc = read_scoring(tmp_path / "1_1.txt", 150, dialect=Dialect(format="isruc"))
    assert isruc.stages.tolist() == [W, N1, N2, N3, R]
    assert (isruc.source, isruc.provenance.scorer) == ("isruc", "1")
    ucddb = read_scoring(tmp_path / "p1_stage.txt", 150, dialect=Dialect(format="ucddb"))
    assert ucddb.stages.tolist() == [W, R, N1, N2, N3] and ucddb.rules == "R&K"
    named = read_scoring(text(tmp_path / "ucddb002_stage.txt", codes), 150)
    assert named.stages.tolist() == ucddb.stages.tolist()
    own = Dialect(stages=(("0", "W"), ("1", "N1"), ("2", "N2"), ("3", "N3"), ("5", "unscored")))
    assert read_scoring(tmp_path / "a.txt", 150, dialect=own).stages.tolist() == [
        W, N1, N2, N3, UNSCORED,
    ]  # fmt: skip
    with pytest.raises(RecordingError, match="unknown stage codes: '7'"):
        read_scoring(text(tmp_path / "b.txt", codes + "7\n"), 180, dialect=own)
    with pytest.raises(RecordingError, match="'deep'"):
        read_scoring(tmp_path / "a.txt", 150, dialect=Dialect(stages=(("0", "deep"),)))


def test_words_need_no_map(tmp_path):
    path = text(tmp_path / "a.txt", "# 30 s\nW\nN1\nN2\nN3\nR\n?\n")
    scoring = read_scoring(path, 180)
    assert scoring.stages.tolist() == [W, N1, N2, N3, R, UNSCORED] and scoring.rules == "AASM"
    # W and R are letters, so that 1 to 4 can only be the stages of Rechtschaffen and Kales.
    scoring = read_scoring(text(tmp_path / "b.txt", "W\n1\n2\n4\nR\nMT\n"), 180)
    assert scoring.stages.tolist() == [W, N1, N2, N3, R, MOVEMENT] and scoring.rules == "R&K"
    with pytest.raises(RecordingError, match="digits mean other stages"):
        read_scoring(text(tmp_path / "c.txt", "W\n1\n2\n0\nR\n"), 150)
    pages_of_20 = Dialect(epoch_s=20.0)
    scoring = read_scoring(text(tmp_path / "d.txt", "W\nN2\nR\n"), 60, dialect=pages_of_20)
    assert scoring.stages.tolist() == [W, R] and "stage_pages" in scoring.flags[0]


RESPEVT = """Time       Type   PB/CS  Duration  Low    %Drop  Snore  Arousal    Rate     Change
                                              Desaturation                 B/T

23:59:10  HYP-C             16       89.9    4.1     -     -      64.7   -5.7
23:59:40  APNEA-O           15       90.8    5.2     +     +      64.7   -7.3
00:00:20  HYP-O   PB        22       -       -       -     -
00:00:50  PB                20
"""


def test_ucddb_events_are_read_with_the_stages(tmp_path):
    text(tmp_path / "ucddb002_respevt.txt", RESPEVT)
    path = text(tmp_path / "ucddb002_stage.txt", "0\n2\n3\n3\n4\n1\n8\n")
    scoring = read_scoring(path, 210, start=NIGHT)
    assert scoring.stages.tolist() == [W, N1, N2, N2, N3, R, UNSCORED]
    assert [(e.kind, e.onset, e.duration) for e in scoring.events] == [
        ("hypopnea", 70, 16), ("obstructive_apnea", 100, 15), ("hypopnea", 140, 22),
        ("cheyne_stokes", 170, 20),
    ]  # fmt: skip
    assert [e.value for e in scoring.events] == [None] * 4  # no desaturation is scored there
    without = read_scoring(path, 210)
    assert without.events == () and "events_left_out" in without.flags[0]
    text(tmp_path / "ucddb002_respevt.txt", RESPEVT + "00:01:00  HYP-O\n")
    with pytest.raises(RecordingError, match="respevt.txt: line 8 is no event"):
        read_scoring(path, 210, start=NIGHT)


def test_tables_of_several_sessions_need_to_know_which(tmp_path):
    rows = "session\tepoch_start_time_sec\t30-sec_epoch_sleep_stage\n" + "".join(
        f"task-{name}\t{30 * i}\t{stage}\n"
        for name, stages in (("rest_run-1", "WW"), ("sleep_run-1", "122"))
        for i, stage in enumerate(stages)
    )
    path = text(tmp_path / "sub-01-sleep-stage.tsv", rows)
    scoring = read_scoring(path, 90, recording="sub-01_task-sleep_run-1_eeg.edf")
    assert scoring.stages.tolist() == [N1, N2, N2] and scoring.source == "sessions"
    with pytest.raises(RecordingError, match="task-rest_run-1, task-sleep_run-1"):
        read_scoring(path, 90)
    with pytest.raises(RecordingError, match="none or several"):
        read_scoring(path, 90, recording="sub-01_task-sleep_run-10_eeg.edf")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be",
                                      "latin-1"])  # fmt: skip
def test_noxturnal_in_any_encoding_and_border(tmp_path, encoding):
    for border in ",;\t":
        lines = [["Heure de début", "Heure de fin", "Événement", "Durée"],
                 ["[]", "[]", "[]", "[s]"],
                 ["15/01/2016 23:58:00", "15/01/2016 23:58:30", "Éveil", "30"],
                 ["15/01/2016 23:58:30", "15/01/2016 23:59:00", "N2", "30"],
                 ["15/01/2016 23:58:31", "15/01/2016 23:58:47", "Désat", "15.333"],
                 ["15/01/2016 23:59:00", "15/01/2016 23:59:30", "REM", "30"]]  # fmt: skip
        path = text(tmp_path / "a.csv", "\r\n".join(border.join(row) for row in lines), encoding)
        scoring = read_scoring(path, 90, start=NIGHT)
        assert scoring.stages.tolist() == [W, N2, R] and scoring.source == "noxturnal"
        (fall,) = scoring.events
        assert (fall.kind, fall.text, fall.onset) == ("desaturation", "Désat", 31)
        assert fall.duration == 15.333 and "2016" not in repr(scoring)


def test_the_format_is_told_by_what_is_in_the_file(tmp_path):
    for name, content, expected in (
        ("a.tsv", "onset\tduration\ttrial_type\n0\t30\tW\n", "bids"), ("b.annot", LUNA, "luna"),
        ("c.dat", HMC, "hmc"), ("d.xml", "0,30,W\n30,30,N2\n", "xml"), ("e.x", "<a/>", "xml"),
        ("f", "0,30,W\n30,30,N2\n", "ids"), ("g.json", "[0, 1]", "dreem"), ("h", "W\nW\n", "codes"),
        ("i.txt", "Dear all,\nplease find attached\n", None), ("j.csv", "a,b\n1,2\n", None),
        ("k.txt", REMLOGIC, "remlogic"), ("l.txt", "\n\n", None),
    ):  # fmt: skip
        assert format_of(text(tmp_path / name, content)) == expected, name
    assert set(FORMATS) >= {"edf+", "profusion", "nsrr", "wfdb"} and "Luna .annot" in SUPPORTED


def test_hdf5_and_other_bytes_are_refused_by_name(tmp_path):
    path = tmp_path / "tr03-0005-arousal.mat"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(512))
    with pytest.raises(RecordingError, match="HDF5.*give the .arousal annotations"):
        read_scoring(path, 30)
    for name, raw in (("a.docx", b"PK\x03\x04" + bytes(64)), ("a.pkl", b"\x80\x04K\x01.")):
        (tmp_path / name).write_bytes(raw)
        with pytest.raises(RecordingError, match="unknown scoring format.*supported: EDF"):
            read_scoring(tmp_path / name, 30)


def test_beats_and_headerless_annotations_are_refused(tmp_path):
    import wfdb

    wfdb.wrann("n", "st", np.array([1, 7500]), ['"', '"'], aux_note=["W", "2 HA"],
               write_dir=str(tmp_path))  # fmt: skip
    with pytest.raises(RecordingError, match="no sampling rate; put its header n.hea beside"):
        read_scoring(tmp_path / "n.st", 60)
    wfdb.wrann("m", "st", np.array([1, 7500]), ['"', '"'], aux_note=["W", "2 HA"], fs=250,
               write_dir=str(tmp_path))  # fmt: skip
    scoring = read_scoring(tmp_path / "m.st", 60)
    assert scoring.stages.tolist() == [W, N2]
    assert [(e.kind, e.onset, e.timed) for e in scoring.events] == [
        ("arousal", 30, False), ("hypopnea", 30, False),
    ]  # fmt: skip
    for name, notes, finding in (("a", ["W", "2 ZZ"], "event codes: 'ZZ'"),
                                 ("b", ["W", "9"], "unknown stage codes: '9'")):  # fmt: skip
        wfdb.wrann(name, "st", np.array([1, 7500]), ['"', '"'], aux_note=notes, fs=250,
                   write_dir=str(tmp_path))  # fmt: skip
        with pytest.raises(RecordingError, match=finding):
            read_scoring(tmp_path / f"{name}.st", 60)
    wfdb.wrann("beats", "ecg", np.array([10, 200]), ["N", "N"], fs=250, write_dir=str(tmp_path))
    with pytest.raises(RecordingError, match="annotations without a note"):
        read_scoring(tmp_path / "beats.ecg", 60)
