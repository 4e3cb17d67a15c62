"""Formats of scoring, stage codes, and fitting a scoring to its recording."""

import datetime
from pathlib import Path

import edfio
import numpy as np
import pytest

from sleeplm_jax.config import MOVEMENT, UNSCORED
from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings.events import EVENT_KINDS, event_kind, is_bare_apnea
from sleeplm_jax.recordings.scoring import find_scoring, read_scoring
from sleeplm_jax.recordings.stages import stages_from_spans
from tests.recordings.edf_files import c3, hypnogram, write


def stage(*names):
    return [f"Sleep stage {name}" for name in names]


def test_edf_plus_stages_of_both_rules(tmp_path):
    texts = [*stage("W", "1", "2", "3", "4", "R", "?"), "Movement time"]
    path = hypnogram(tmp_path / "a.edf", texts)
    scoring = read_scoring(path, 240)
    assert scoring.stages.tolist() == [0, 1, 2, 3, 3, 4, UNSCORED, MOVEMENT]
    assert (scoring.source, scoring.rules, scoring.flags) == ("edf+", "R&K", ())
    path = hypnogram(tmp_path / "b.edf", stage("W", "N1", "N2", "N3", "R"))
    scoring = read_scoring(path, None)
    assert scoring.stages.tolist() == [0, 1, 2, 3, 4] and scoring.rules == "AASM"


def test_long_spans_and_events(tmp_path):
    notes = [
        edfio.EdfAnnotation(0, 90, "Sleep stage W"),
        edfio.EdfAnnotation(90, 60, "Sleep stage 2"),
        edfio.EdfAnnotation(100.5, 12, "Obstructive apnea"),
        edfio.EdfAnnotation(111, None, "Lights off"),
    ]
    scoring = read_scoring(write(tmp_path / "a.edf", [c3(150)], annotations=notes), 150)
    assert scoring.stages.tolist() == [0, 0, 0, 2, 2]
    first, second = scoring.events
    assert (first.kind, first.onset, first.duration) == ("obstructive_apnea", 100.5, 12)
    assert (second.kind, second.text) == ("note", "Lights off")
    assert scoring.provenance.lights_off_s == 111 and scoring.provenance.lights_on_s is None


def test_scoring_longer_and_shorter_than_the_signal(tmp_path):
    path = hypnogram(tmp_path / "a.edf", stage(*["W"] * 20))
    longer = read_scoring(path, 300)
    assert len(longer.stages) == 10
    assert longer.flags == ("scoring_longer_than_signal: 20 epochs scored, 10 recorded",)
    shorter = read_scoring(path, 900)
    assert shorter.stages.tolist() == [0] * 20 + [UNSCORED] * 10
    assert shorter.flags == ("scoring_shorter_than_signal: 20 epochs scored, 30 recorded",)
    begun = read_scoring(path, 585)  # the last epoch was begun: scored, but not whole
    assert len(begun.stages) == 19 and begun.flags == ()


def test_scoring_that_starts_later_is_shifted(tmp_path):
    late = datetime.time(0, 31)
    path = hypnogram(tmp_path / "a.edf", stage("W", "2", "R"), start=late)
    scoring = read_scoring(path, 180, start=datetime.time(0, 30))
    assert scoring.stages.tolist() == [UNSCORED, UNSCORED, 0, 2, 4, UNSCORED]
    assert any("scoring_shifted" in flag for flag in scoring.flags)
    across_midnight = read_scoring(path, 7200, start=datetime.time(23, 1))
    assert across_midnight.stages[180:183].tolist() == [0, 2, 4]
    with pytest.raises(RecordingError, match="shares no epoch"):
        read_scoring(path, 180, start=datetime.time(6, 0))


def test_unknown_stage_codes_are_listed(tmp_path):
    path = hypnogram(tmp_path / "a.edf", stage("W", "N7", "2"))
    with pytest.raises(RecordingError, match="Sleep stage N7"):
        read_scoring(path, 90)
    with pytest.raises(RecordingError, match="no sleep stages"):
        read_scoring(hypnogram(tmp_path / "b.edf", ["Recording starts"]), 90)


def test_spans_off_the_grid_take_the_stage_of_most_of_the_epoch():
    stages, flags = stages_from_spans([(0, 40, 0), (40, 50, 2)], Path("a.edf"))
    assert stages.tolist() == [0, 2, 2] and "off_the_30_s_grid: 1 of 2" in flags[0]
    # N1 holds the middle of the first epoch, but W 24 of its 30 s.
    stages, _ = stages_from_spans([(0, 12, 0), (12, 6, 1), (18, 42, 0)], Path("a.edf"))
    assert stages.tolist() == [0, 0]
    # Halves: the stage that begins at the middle. A stage of 10 s in an epoch nobody else scored
    # does not make it that stage.
    stages, _ = stages_from_spans([(0, 15, 0), (15, 25, 2)], Path("a.edf"))
    assert stages.tolist() == [2, UNSCORED]
    stages, flags = stages_from_spans([(0, 60, 0), (30, 60, 2)], Path("a.edf"))
    assert stages.tolist() == [0, 2, 2] and "overlapping_stages: 1" in flags[0]
    stages, flags = stages_from_spans([(0, 30, 0), (90, 0, 4)], Path("a.edf"))
    assert stages.tolist() == [0, UNSCORED, UNSCORED, 4]
    assert flags == ("gaps_in_scoring: 1, 60 s in all, left unscored",)
    stages, flags = stages_from_spans([(0, 300, 0), (60, 30, 2), (90, 30, 3)], Path("a.edf"))
    assert stages.tolist() == [0, 0, 2, 3, *[0] * 6] and "overlapping_stages: 2 of 3" in flags[0]


PROFUSION = """<?xml version="1.0"?>
<CMPStudyConfig><EpochLength>{length}</EpochLength>
<ScoredEventSettings><ScoredEventSetting><Name>Hypopnea</Name></ScoredEventSetting>
</ScoredEventSettings><ScoredEvents>
<ScoredEvent><Name>SpO2 desaturation</Name><LowestSpO2>87.5</LowestSpO2>
<Desaturation>5</Desaturation><Start>20.5</Start><Duration>18</Duration><Input>SaO2</Input></ScoredEvent>
<ScoredEvent><Name>Arousal ()</Name><Start>{start}</Start><Duration>4</Duration></ScoredEvent>
</ScoredEvents><SleepStages>{stages}</SleepStages></CMPStudyConfig>"""


def profusion(path, codes="01234569", start="61", length="30", root=None):
    stages = "".join(f"<SleepStage>{code}</SleepStage>" for code in codes)
    text = PROFUSION.format(stages=stages, start=start, length=length)
    path.write_text(text.replace("CMPStudyConfig", root) if root else text)
    return path


def test_profusion(tmp_path):
    scoring = read_scoring(profusion(tmp_path / "a.xml"), None)
    assert scoring.stages.tolist() == [0, 1, 2, 3, 3, 4, MOVEMENT, UNSCORED]
    assert scoring.rules == "R&K"
    desaturation, arousal = scoring.events
    assert (desaturation.kind, desaturation.value) == ("desaturation", 87.5)
    assert (desaturation.onset, desaturation.end, desaturation.channel) == (20.5, 38.5, "SaO2")
    assert (arousal.kind, arousal.value, arousal.channel) == ("arousal", None, None)


@pytest.mark.parametrize(
    "more, finding",
    [
        (dict(codes="0127"), "'7'"),
        (dict(start="soon"), "ScoredEvent 2"),
        (dict(start="nan"), "ScoredEvent 2"),
        (dict(length="0"), "epochs of '0' s"),
        (dict(length="a day"), "epochs of 'a day' s"),
        (dict(codes=""), "no SleepStage"),
        (dict(root="PSGAnnotation"), "no sleep stages"),
        (dict(root="html"), "'html'"),
    ],
)
def test_profusion_that_cannot_be_used(tmp_path, more, finding):
    with pytest.raises(RecordingError, match=finding):
        read_scoring(profusion(tmp_path / "a.xml", **more), 240)


def test_xml_entities_and_damage_are_refused(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text(
        '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]><CMPStudyConfig>&a;</CMPStudyConfig>'
    )
    with pytest.raises(RecordingError, match="not a readable XML"):
        read_scoring(path, 240)
    path.write_text("<CMPStudyConfig><Sleep")
    with pytest.raises(RecordingError, match="not a readable XML"):
        read_scoring(path, 240)


def tsv(path, header, *rows):
    path.write_text("\n".join("\t".join(map(str, row)) for row in (header, *rows)) + "\n")
    return path


def test_bids_names_and_events(tmp_path):
    path = tsv(
        tmp_path / "a_events.tsv",
        ("onset", "duration", "trial_type"),
        (0, 30, "W"), (30, 30, "N1"), (60, 30, "N2"), (61.5, 4, "arousal"), (90, 30, "N3"),
        (120, 30, "R"), (150, 30, "n/a"),
    )  # fmt: skip
    scoring = read_scoring(path, 180)
    assert scoring.stages.tolist() == [0, 1, 2, 3, 4, UNSCORED]
    assert [e.kind for e in scoring.events] == ["arousal"] and scoring.source == "bids"


def test_bids_numbers_prefer_the_human(tmp_path):
    path = tsv(
        tmp_path / "a_events.tsv",
        ("onset", "duration", "stage_hum", "stage_ai"),
        (0, 30, 0, 4), (30, 30, 3, 4), (60, 30, 8, 4),
    )  # fmt: skip
    scoring = read_scoring(path, 90)
    assert scoring.stages.tolist() == [0, 3, UNSCORED] and scoring.flags == ()
    path = tsv(tmp_path / "b_events.tsv", ("onset", "duration", "stage_ai"), (0, 30, 4))
    assert "scored_by_machine" in read_scoring(path, 30).flags[0]


@pytest.mark.parametrize(
    "header, row, finding",
    [
        (("onset", "duration", "trial_type"), (0, 30, "N4"), "'N4'"),
        (("onset", "duration", "stage_hum"), (0, 30, 6), "'6'"),
        (("onset", "duration", "trial_type"), ("x", 30, "W"), "line 2"),
        (("onset", "duration", "trial_type"), (0, -30, "W"), "line 2: a duration of -30 s"),
        (("onset", "stage"), (0, "W"), "has the columns"),
        (("onset", "duration", "trial_type"), (0, 3, "arousal"), "no sleep stages"),
    ],
)
def test_bids_that_cannot_be_used(tmp_path, header, row, finding):
    with pytest.raises(RecordingError, match=finding):
        read_scoring(tsv(tmp_path / "a_events.tsv", header, row), 30)


@pytest.mark.parametrize(
    "wording, kind",
    [
        ("Obstructive Apnea", "obstructive_apnea"), ("Central apnoea", "central_apnea"),
        ("Mixed Apnea", "mixed_apnea"), ("Obstructive Hypopnea", "hypopnea"),
        ("SpO2 desaturation", "desaturation"), ("SpO2 artifact", "artefact"),
        ("Arousal ()", "arousal"), ("RERA", "rera"), ("PLM (Left)", "periodic_limb_movement"),
        ("Limb Movement (Right)", "limb_movement"), ("Unsure", "other"), ("Lights on", "note"),
        ("Obstr. Apnea", "obstructive_apnea"), ("A. Obstructive", "obstructive_apnea"),
        ("APNEA-O", "obstructive_apnea"), ("Apnée obstructive", "obstructive_apnea"),
        ("Apne\u0301e obstructive", "obstructive_apnea"),
        ("Obstruktive Apnoe", "obstructive_apnea"),
        ("Apnea", "other"), ("Apnoea", "other"), ("Obstructive", "other"), ("Apnea on", "other"),
        ("APNEA-C", "central_apnea"), ("Apnée mixte", "mixed_apnea"),
        ("Hypopnée obstructive", "hypopnea"), ("HYPOPNEA-O", "hypopnea"),
        # NSRR's terms, new and old, and their harmonised names
        ("Obstructive apnea|Obstructive Apnea", "obstructive_apnea"),
        ("Mixed apnea|APNEA-MIXED", "mixed_apnea"), ("apnea/central", "central_apnea"),
        ("apnea_obstructive", "obstructive_apnea"), ("hypopnea_central", "hypopnea"),
        ("Respiratory effort related arousal|RERA", "rera"), ("arousal/RERA", "rera"),
        ("Arousal resulting from respiratory effort|Arousal (ARO RES)", "arousal"),
        ("Spontaneous arousal|Arousal (ARO SPONT)", "arousal"), ("arousal_plm", "arousal"),
        ("Limb movement - left|Limb Movement (Left)", "limb_movement"),
        ("Periodic leg movement - left|PLM (Left)", "periodic_limb_movement"),
        ("SpO2 desaturation|DESAT", "desaturation"), ("artifact/SpO2", "artefact"),
        ("Signal artifact|SIGNAL-ARTIFACT", "artefact"), ("Periodic Breathing", "cheyne_stokes"),
        ("cheynestokes_ breathing", "cheyne_stokes"), ("Bradycardia", "heart_rhythm"),
        ("Narrow complex tachycardia|Narrow Complex Tachycardia", "heart_rhythm"),
        ("Body position change to left|POSITION-LEFT", "body_position"),
        ("ObstructiveApneaFinding", "obstructive_apnea"), ("Unsure|Unsure", "other"),
        # Noxturnal in French, REMlogic, WSC
        ("Micro-éveil", "arousal"), ("Désat", "desaturation"), ("MJ", "limb_movement"),
        ("A. Centrale", "central_apnea"), ("A. Mixte", "mixed_apnea"), ("Gauche", "body_position"),
        ("Rapide", "other"), ("Début de l'analyse", "note"), ("MCAP-A1", "other"),
        ("Obst. Apnea", "obstructive_apnea"), ("OA", "obstructive_apnea"), ("snore", "snore"),
        ("Respiratory Paradox", "other"), ("", "other"), ("Left leg twitched", "other"),
        # WSC: studies/wsc/annotsummary.txt and proc.md of nsrr_luna_mazzotti, with their meanings
        ("RESPIRATORY EVENT - DUR: 33.1 SEC. - HYPOPNEA - DESAT 90.6 %", "hypopnea"),
        ("DESATURATION - DUR: 35.6 SEC. - MIN 90.6 % - DROP 3.3 %", "desaturation"),
        ("AROUSAL - DUR: 3.0 SEC. - SPONTANEOUS", "arousal"),
        ("AROUSAL - DUR: 3.0 SEC. - RESPIRATORY EVENT", "arousal"),
        ("LM - DUR: 0.7 SEC. - ISOLATED", "limb_movement"),
        ("AROUSAL - DUR: 3.0 SEC. - LM", "arousal"),
        ("RESPIRATORY EVENT - DUR: 47.0 SEC. - OBSTRUCTIVE APNEA - DESAT 76.4",
         "obstructive_apnea"),
        ("RESPIRATORY EVENT - DUR: 10.6 SEC. - CENTRAL APNEA - DESAT 91.0 %", "central_apnea"),
        ("POSITION - LEFT", "body_position"), ("POSITION - SITTING", "body_position"),
        ("LMA", "arousal"), ("RespA", "arousal"), ("SPONArousal", "arousal"),
        ("Obs Apnea", "obstructive_apnea"), ("OBSApnea", "obstructive_apnea"),
        ("CentralHypopnea", "hypopnea"), ("Obst.Hypopnea", "hypopnea"), ("HYP", "hypopnea"),
        ("* RESPIRATORY EVENT - MIXED APNEA - DESAT 64.0 %", "mixed_apnea"),
        ("* AROUSAL - DUR:  3.4 SEC. - RESPIRATORY EVENT", "arousal"),
        # what is scored is named first, what came with it after
        ("Hypopnea with desaturation", "hypopnea"), ("Hypopnea with arousal", "hypopnea"),
        ("Central Apnea Without Desaturation", "central_apnea"), ("Apnea with arousal", "other"),
        ("Apnea - DESAT 88 %", "other"), ("LM with arousal", "limb_movement"),
        ("PLM w/ arousal", "periodic_limb_movement"), ("lml_arousal", "limb_movement"),
        ("Left Leg w/Arousal", "limb_movement"), ("LM Arousal", "arousal"),
        ("Limb movement related EEG arousal", "arousal"), ("Arousal (respiratory)", "arousal"),
        ("Arousal with hypopnea?", "arousal"), ("Resp. arousal (hypopnea)", "arousal"),
        ("Hypopnea-related arousal", "arousal"), ("Desaturation after hypopnea", "desaturation"),
        ("4% desaturation", "desaturation"), ("Oxygen Desaturation", "desaturation"),
    ],
)  # fmt: skip
def test_wordings_of_events(wording, kind):
    assert event_kind(wording) == kind and kind in EVENT_KINDS


@pytest.mark.parametrize("wording", [
    "Apnea with arousal", "Apnea - DESAT 88 %", "Apnea w/ arousal", "Apnea without desaturation",
    "RESPIRATORY EVENT - DUR: 10.6 SEC. - APNEA - DESAT 91.0 %", "RESPIRATORY EVENT - APNEA",
])  # fmt: skip
def test_an_apnoea_of_no_kind_stays_one_whatever_came_with_it(wording):
    assert event_kind(wording) == "other" and is_bare_apnea(wording)
    for kind in ("Central", "Mixed", "Obstructive"):
        assert not is_bare_apnea(wording.replace("Apnea", f"{kind} Apnea")
                                 .replace("APNEA", f"{kind} APNEA"))  # fmt: skip
    assert not is_bare_apnea("Arousal with apnea") and not is_bare_apnea("Hypopnea with arousal")


def test_a_cohorts_wordings_win():
    own = (("unsure", "hypopnea"), ("hypopnea|hypopnea", "other"))
    assert event_kind("Unsure", own) == event_kind("Unsure|Unsure", own) == "hypopnea"
    assert event_kind("Hypopnea|Hypopnea", own) == "other"
    assert event_kind("Hypopnea", own) == "hypopnea"


def test_scoring_beside_a_recording_is_found(tmp_path):
    def beside(recording, *names):
        folder = tmp_path / recording.replace(".", "_")
        folder.mkdir()
        for name in (recording, *names):
            (folder / name).touch()
        found = find_scoring(folder / recording)
        return found and found.name

    assert beside("a.edf", "b.xml") is None
    assert beside("b.edf", "b.xml") == "b.xml"
    assert beside("c.edf", "c-profusion.xml", "c-nsrr.xml") == "c-profusion.xml"
    assert beside("d.edf", "d-nsrr.xml") == "d-nsrr.xml"
    night = "SC4001E0-PSG.edf"
    others = ("SC4002EC-Hypnogram.edf", "SC4011EH-Hypnogram.edf")
    assert beside(night, "SC4001EC-Hypnogram.edf", *others) == "SC4001EC-Hypnogram.edf"
    assert beside("sub-1_eeg.edf", "sub-1_events.tsv") == "sub-1_events.tsv"
    assert beside("e.edf", "e_hypnogram.edf") == "e_hypnogram.edf"
    with pytest.raises(RecordingError, match=r"f\.xml, f_events\.tsv"):
        beside("f.edf", "f.xml", "f_events.tsv")
    assert beside("NIGHT.EDF", "NIGHT.XML") == "NIGHT.XML"
    assert beside("G.edf", "g_Hypnogram.EDF", "gg.XML") == "g_Hypnogram.EDF"
    assert beside("h.edf", "h.xml", "H.XML") == "h.xml"  # H.XML is of an H.EDF
    assert beside("SUB-1_EEG.EDF", "sub-1_events.tsv") == "sub-1_events.tsv"


def test_absent_and_unknown_files(tmp_path):
    with pytest.raises(RecordingError, match="no such scoring file"):
        read_scoring(tmp_path / "a.xml", 30)
    (tmp_path / "a.docx").touch()
    with pytest.raises(RecordingError, match="unknown scoring format"):
        read_scoring(tmp_path / "a.docx", 30)
    (tmp_path / "01-01-0001 PSG_saf.txt").write_text("W\nW\nN1\n")  # else one code per line
    with pytest.raises(RecordingError, match="_saf.txt, whose form is not read.*Base.edf") as error:
        read_scoring(tmp_path / "01-01-0001 PSG_saf.txt", 90)
    assert "\n" not in str(error.value)
    (tmp_path / "a.edf").write_bytes(b"not an edf")
    with pytest.raises(RecordingError, match="not an EDF"):
        read_scoring(tmp_path / "a.edf", 30)
    stages = read_scoring(hypnogram(tmp_path / "b.edf", stage("W", "N1")), None).stages
    assert stages.dtype == np.int8


def test_a_hypnogram_beside_an_eeg_file_is_found_where_nothing_else_is(tmp_path):
    recording, hypnogram = tmp_path / "p1_eeg.edf", tmp_path / "p1_hypnogram.edf"
    recording.touch()
    assert find_scoring(recording) is None
    hypnogram.touch()
    assert find_scoring(recording) == hypnogram
    (tmp_path / "p1_events.tsv").touch()
    assert find_scoring(recording).name == "p1_events.tsv"
