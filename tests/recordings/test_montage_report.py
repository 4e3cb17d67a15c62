"""Coverage of label lists and of recordings, and the commands that show it."""

import json
import re
from pathlib import Path

import pytest
import yaml

from sleeplm_jax.cli import main
from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings import montage
from sleeplm_jax.recordings.montage import load_montage, parse_montage
from sleeplm_jax.recordings.montage_report import report_labels, report_recordings
from tests.recordings.edf_files import c3, signal, tone, write
from tests.recordings.test_montage_labels import judged

GUIDE = (Path(__file__).parents[2] / "docs" / "montages.md").read_text(encoding="utf-8")


def listed(tmp_path, **cohorts):
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(cohorts))
    return path


def test_shares_are_those_counted_by_hand(psg):
    path = psg / "channel_names" / "cohort_channel_names.json"
    mros, apples = (report_labels(path, name)[0].as_dict() for name in ("mros", "APPLES"))
    assert mros["montages"] == ["mros1", "mros2"]
    lists = json.loads(path.read_text())["MROS"]["top_montages"]
    both = sum(one["n"] for one in lists if {"C3", "A2"} <= set(one["channels"]))
    assert mros["channels"]["C3"]["sources"]["C3 - A2"] == both == 2901
    assert mros["channels"]["C3"]["share"] == [1, 1]
    assert set(mros["unknown_labels"]) == {"CH36", "CH37"}
    assert mros["channels"]["POS"]["share"] == [0, 0]
    counts = json.loads(path.read_text())["APPLES"]["names"]
    for channel, label in (("C3", "C3_M2"), ("O1", "O1_M2"), ("HR", "pulse")):
        assert apples["channels"][channel]["sources"] == {label: counts[label]}
    assert not apples["channels"]["LEG-L"]["sources"] and "LEG" in apples["other_labels"]


def test_counts_of_unverified_tables_are_marked(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")  # no row of the list is broken
    path = listed(tmp_path, **{
        name: {"n_recordings": 1, "names": {label: 1},
               "top_montages": [{"n": 1, "channels": [label]}]}
        for name, label in (("ISRUC", "C3-M2"), ("APPLES", "C3_M2"))
    })  # fmt: skip
    isruc, apples = (one.as_dict() for one in report_labels(path))
    assert isruc["unverified_montages"] == ["isruc"] and apples["unverified_montages"] == []
    for name, marked in (("ISRUC", True), ("APPLES", False)):
        assert main(["montage", "report", str(path), "--cohort", name]) == 0
        shown = capsys.readouterr().out
        assert ("100 % ?" in shown) == ("unverified" in shown) == marked
    assert main(["montage", "list"]) == 0
    lines = [line.split("│") for line in capsys.readouterr().out.splitlines() if "│" in line]
    marked = {cells[1].strip() for cells in lines if cells[4].strip() == "unverified"}
    assert marked == {"generic", "simulated", "isruc", "cap", "dcsm", "mass", "mass-rk"}


def test_what_no_montage_lists_is_bounded(tmp_path):
    # 10 recordings, 4 of them known: of the other 6, 5 have C3 and 3 have M2, so 2 or 3 have both.
    path = listed(tmp_path, Ours={
        "n_recordings": 10,
        "names": {"C3": 9, "M2": 7, "Chin": 10, "Odd": 6, "F3-M2": 1},
        "top_montages": [{"n": 4, "channels": ["C3", "M2", "Chin"]}],
    })  # fmt: skip
    (found,) = report_labels(path)
    assert (found.recordings, found.judged) == (10, 4)
    assert (found.least["C3"], found.most["C3"]) == (6, 7)
    assert (found.least["EMG"], found.most["EMG"]) == (10, 10)
    assert (found.least["F3"], found.most["F3"]) == (1, 1)
    assert found.unknown == {"Odd": 6}


def test_numbered_labels_of_a_list_are_their_signals(tmp_path):
    path = listed(tmp_path, SHHS={
        "n_recordings": 3,
        "names": {"AIRFLOW": 2, "AIRFLOW-0": 1, "AIRFLOW-1": 1, "EEG": 3},
        "top_montages": [{"n": 2, "channels": ["AIRFLOW", "EEG"]},
                         {"n": 1, "channels": ["AIRFLOW-0", "EEG", "AIRFLOW-1"]}],
    })  # fmt: skip
    (found,) = report_labels(path)
    assert found.resolved["AF"] == {"AIRFLOW": 2, "AIRFLOW-1": 1} and not found.unknown


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"A": {}}', '{"A": {"n_recordings": "x", "names": {}}}', '{"A": 3}']
)
def test_another_json_is_one_line(tmp_path, text, capsys):
    path = tmp_path / "x.json"
    path.write_text(text)
    if text == "[]":
        assert main(["montage", "report", str(path)]) == 2
    else:
        with pytest.raises(RecordingError, match="list of labels"):
            report_labels(path)
        assert main(["montage", "report", str(path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_recordings_are_read_by_their_headers(tmp_path, capsys):
    write(tmp_path / "a.edf", [c3(60), c3(60, "Left thumb")])
    write(tmp_path / "b.edf", [c3(60), c3(60, unit="%", label="C4-M1")])
    write(tmp_path / "sub.BDF", [c3(60, "C3"), c3(60, "M2")])  # an EDF by its first bytes
    (tmp_path / "bad.edf").write_bytes(b"nothing of the sort")
    (tmp_path / "notes.txt").write_text("no recording")
    groups, failures = report_recordings([tmp_path])
    (found,) = groups
    assert found.cohort == "generic" and (found.recordings, found.judged) == (3, 3)
    assert found.resolved["C3"] == {"C3-M2": 2, "C3 - M2": 1}
    assert found.resolved["C4"] == {} and "no voltage" in next(iter(found.reasons["C4"]))
    assert found.unknown == {"Left thumb": 1}
    assert len(failures) == 1 and "bad.edf" in str(failures[0])
    assert main(["montage", "report", str(tmp_path)]) == 1
    shown = capsys.readouterr()
    assert "C3-M2 2, C3 - M2 1" in shown.out and "Left thumb 1" in shown.out
    assert shown.err.count("\n") == 1 and "bad.edf" in shown.err
    assert main(["montage", "report", str(tmp_path / "a.edf"), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["channels"]["C3"] == {"share": [1, 1], "sources": {"C3-M2": 1}, "reasons": {}}


def test_a_montage_of_ones_own_is_reported(tmp_path):
    path = write(tmp_path / "a.edf", [c3(60, "EEG9"), signal("x", tone(1, 1, 60))])
    mine = parse_montage({"name": "mine", "others": {"x": "a test tone"},
                          "channels": {"C3": [{"expr": "EEG9", "citation": "test"}]}})  # fmt: skip
    ((found,), failures) = report_recordings([path], montage=mine)
    assert found.resolved["C3"] == {"EEG9": 1} and found.others == {"x": "a test tone"}
    assert not found.unknown and not failures


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_nothing_to_report_is_one_line(tmp_path, name, capsys):
    assert main(["montage", "report", str(tmp_path / name)]) == 2
    assert main(["montage", "report"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_ambiguous_labels_show_in_the_report(tmp_path):
    path = write(tmp_path / "a.edf", [c3(60), signal("C3-M2", tone(3, 20, 60)), c3(60, "EMG")])
    ((found,), _) = report_recordings([path])
    assert not found.resolved["C3"]
    assert "fits 2 signals that differ" in next(iter(found.reasons["C3"]))


MISTAKES = {
    "name: x\nchannels: {C9: []}": "unknown channel 'C9'",
    "name: x\nchannels: {C3: [{expr: 'C3 -', citation: a}]}": "C3, row 1 (C3 -)",
    "name: x\nchannels: {C3: [{expr: C3, citation: a}, {expr: C3}]}": "C3, row 2 (C3)",
    "name: x\nchannels: {C3: [{expr: C3, citation: a, unitt: uV}]}": "unknown keys ['unitt']",
    "name: x\nchannels: {C3: [{expr: C3, citation: a, unit: Ohm}]}": "'Ohm' is no voltage",
    "name: x\nchannels: {C3: [{expr: C3, citation: a, polarity: 2}]}": "polarity 2",
    "name: x\nchannels: {AF: [{expr: C3, citation: a, transducer: nose}]}": "transducer 'nose'",
    "name: x\nchannels: {AF: [{expr: A - B, citation: a, occurrence: 2}]}": "`occurrence`",
    "name: x\nchannels: {AF: [{expr: A, citation: a, occurrence: 0}]}": "`occurrence`",
    "name: x\nchannels: {AF: [{expr: A, citation: a, stand_in: 'yes'}]}": "stand_in: 'yes'",
    "name: x\nchannels: {AF: [{expr: A, citation: a, scale: much}]}": "AF, row 1 (A)",
    "name: x\nchannels: {AF: [{expr: A, citation: a, scale: .nan}]}": "scale nan",
    "name: x\nchannels: {AF: [{expr: A, citation: a, scale: -1}]}": "scale -1",
    "name: x\nchannels: {AF: [{expr: A, citation: a, min_rate: .inf}]}": "min_rate inf",
    "name: x\nchannels: {POS: [{expr: Pos, citation: a}]}": "needs `codes` or `degrees`",
    "name: x\nchannels: {POS: [{expr: P, citation: a, codes: {up: 1}}]}": "unknown position 'up'",
    "name: x\nchannels: {POS: [{expr: P, citation: a, codes: {left: 1, right: 1}}]}": "two pos",
    "name: x\nchannels: {POS: [{expr: P, citation: a, degrees: true, upright: {label: E}}]}":
        "lacks the key 'above'",
    "name: x\nchannels: [C3]": "no table of channels",
    "name: x\nextends: nowhere\nchannels: {}": "extends: 'nowhere'",
    "name: x\nextends: nowhere": "extends: 'nowhere'",
    "name: x": "lacks the key 'channels'",
    "a: &a [x, x]\nname: [*a, *a]\nchannels: {}": "an alias",
    "name: x\nchannels: {C3: {expr: C3}}": "C3: is no list of rows",
    "name: x\nchannels: {C3: [C3]}": "has no `expr`",
    "channels: {}": "lacks the key 'name'",
    "name: x\nsubject: 'abc'\nchannels: {}": "no group in brackets",
    "name: x\nfamily: '(a'\nchannels: {}": "not a montage",
    "name: x\ncohorts: abc\nchannels: {}": "cohorts: 'abc' is no list",
    "name: x\nverified: maybe\nchannels: {}": "verified: 'maybe'",
    "name: x\nchannels: {}\nscoring: {stages: {7: N7}, citation: a}": "'7' is 'N7'",
    "name: x\nchannels: {}\nscoring: {events: {snort: snort}, citation: a}": "'snort'",
    "name: x\nchannels: {}\nscoring: {rules: AASM}": "scoring: has no citation",
    "name: x\nchannels: {}\nscoring: {epoch_s: 0, citation: a}": "epoch_s 0",
    "name: x\nchannels: {}\nscoring: {code: 1}": "unknown keys ['code']",
    "- not a table": "no table of keys",
    "!!python/object/apply:os.getcwd []": "not a montage",
    "a: [": "not a montage",
    "": "no table of keys",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_check_says_in_one_line_what_is_wrong_and_where(tmp_path, text, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    assert main(["montage", "check", str(path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "mine.yaml" in lines[0] and MISTAKES[text] in lines[0]


PACKAGED = Path(montage.__file__).parent / "montages"


@pytest.mark.parametrize("name", ["shhs", "SHHS"])
def test_a_file_that_takes_a_packaged_montages_name_is_refused(tmp_path, name, capsys):
    """Nights keep the name of their montage: it must tell which one that was."""
    path = tmp_path / "mine.yaml"
    path.write_text(f"name: {name}\nextends: shhs\ncohorts: [shhs]\n")
    assert main(["montage", "check", str(path)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "packaged montage 'shhs'" in said and "name of its own" in said
    path.write_text("name: shhs-mine\nextends: shhs\n")
    assert main(["montage", "check", str(path)]) == 0


def test_a_packaged_table_may_be_checked_by_its_path():
    assert main(["montage", "check", str(PACKAGED / "shhs.yaml")]) == 0


def test_a_file_called_like_a_packaged_montage_is_not_passed_over(tmp_path, monkeypatch, capsys):
    """Or else the packaged one would be read in silence."""
    monkeypatch.chdir(tmp_path)
    Path("shhs").write_text("name: mine\nchannels: {}\n")
    assert main(["montage", "check", "shhs"]) == 2
    assert "a file here" in capsys.readouterr().err
    assert main(["montage", "check", "hmc"]) == 0
    assert [m.name for m in montage.packaged_montages() if m.name == "shhs"]


def test_a_file_may_extend_a_packaged_montage(tmp_path):
    path = tmp_path / "mine.yaml"
    row = "{expr: Position, codes: {right: 0, supine: 1, left: 2}, citation: our own look at it}"
    path.write_text(f"name: mine\nextends: mros1\nchannels: {{POS: [{row}]}}\n")
    mine, base = load_montage(path), load_montage("mros1")
    assert [r.unusable for r in mine.channels["POS"]] == [""] and base.channels["POS"][0].unusable
    assert {k: v for k, v in mine.channels.items() if k != "POS"} == {
        k: v for k, v in base.channels.items() if k != "POS"
    }
    assert (mine.subject, mine.dialect, mine.others) == (base.subject, base.dialect, base.others)
    assert mine.cohorts == () and mine.matches == () and not mine.verified


def test_a_file_that_extends_needs_no_channels_of_its_own(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nextends: mros1\nsubject: '^(P\\d+)'\n")
    mine, base = load_montage(path), load_montage("mros1")
    assert mine.channels == base.channels and mine.subject == r"^(P\d+)" != base.subject


def test_a_file_too_large_for_a_montage_is_refused(tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"#" * (2 << 20))
    assert main(["montage", "check", str(path)]) == 2
    assert "larger than 1 MiB" in capsys.readouterr().err


def test_check_prints_what_a_montage_holds(tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "name: mine\ndescription: our ward\nchannels:\n"
        "  C3: [{expr: C3 - A2, citation: unverified}]\n"
        "  AF: [{expr: Therm, transducer: thermal, polarity: -1, citation: the manual}]\n"
        "scoring: {rules: AASM, stages: {R: R}, events: {Unsure: hypopnea}, citation: unverified}\n"
    )
    montage = load_montage(path)
    assert montage.dialect.events == (("unsure", "hypopnea"),)
    assert montage.dialect.stages == (("R", "R"),) and montage.dialect.rules == "AASM"
    assert main(["montage", "check", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "C3 - A2" in shown and "turned over" in shown and "2 rows for 2 channels" in shown
    assert main(["montage", "list"]) == 0
    assert "shhs" in capsys.readouterr().out


def test_the_guides_example_is_a_montage():
    example = yaml.safe_load(re.search(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)[1])
    montage = parse_montage(example)
    assert montage.channels["POS"][0].codes[-2:] == ((4.0, 4), (5.0, 4))
    assert montage.dialect.events == (("hypopnea 3%", "hypopnea"),)


def test_the_guides_figures_are_those_measured():
    for name in ("SHHS", "MrOS", "STAGES", "APPLES", "ISRUC"):
        precision, recall, _, _ = judged(name.upper())
        shown = ["100" if x == 1 else f"{100 * x:.1f}" for x in (precision, recall)]
        assert f"| {name} | {' | '.join(shown)} |" in GUIDE
