"""The command as a user meets it: names that others rely on, one line for a mistake."""

import json
import shutil

import pytest

from sleeplm_jax.cli import main
from sleeplm_jax.config import SLEEPLM_CHANNELS


def test_every_command_explains_itself(capsys):
    for command in ("simulate", "inspect", "prepare", "tokenizer", "train", "evaluate", "describe",
                    "caption", "runs"):
        with pytest.raises(SystemExit) as stopped:
            main([command, "--help"])
        assert stopped.value.code == 0
        assert f"sleeplm {command}" in capsys.readouterr().out


def test_inspect_as_json(simulated_folder, capsys):
    assert main(["inspect", str(simulated_folder / "sim-3-0000.edf"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(SLEEPLM_CHANNELS) <= set(found["channels"])
    c3 = found["channels"]["C3"]
    assert (c3["source"], c3["unit"], c3["rate"], c3["scale"]) == ("C3-M2", "µV", 128.0, 1.0)


@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect", "absent.edf"],
        ["prepare", "--recordings", "absent", "--out", "x"],
        ["prepare", "--recordings", ".", "--out", "x", "--channels", "C3,C9"],
        ["tokenizer", "--corpus", "absent"],
        ["train", "absent.py"],
        ["evaluate", "absent", "--corpus", "absent"],
        ["describe", "absent", "absent.edf"],
        ["simulate", "--out", "x", "--nights", "1", "--hours", "1000"],
    ],
)
def test_a_mistake_is_one_line_and_status_2(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("sleeplm: ") and "\n" not in said and "; " in said


def test_a_misspelt_field_of_an_experiment_is_named(capsys, tmp_path):
    experiment = tmp_path / "x.py"
    experiment.write_text(
        "from sleeplm_jax.config import RunConfig\ndef get_config(): return RunConfig()\n"
    )
    with pytest.raises(SystemExit) as stopped:
        main(["train", str(experiment), "--optimizer.learning-rat", "1"])
    assert stopped.value.code == 2
    assert "learning-rate" in capsys.readouterr().err


def test_prepare_says_by_its_status_that_something_failed(simulated_folder, tmp_path, capsys):
    folder = tmp_path / "recordings"
    folder.mkdir()
    for path in simulated_folder.glob("sim-3-0000.*"):
        shutil.copy(path, folder)
    (folder / "torn.edf").write_bytes((folder / "sim-3-0000.edf").read_bytes()[:9000])
    arguments = ["prepare", "--recordings", str(folder), "--out", str(tmp_path / "c"),
                 "--workers", "1"]
    assert main(arguments) == 1
    assert "torn.edf" in (tmp_path / "c" / "failures.csv").read_text()
    (folder / "torn.edf").unlink()
    assert main(arguments) == 0


def test_evaluate_and_describe_a_run(
    trained_run, corpus_folder, simulated_folder, tmp_path, capsys
):
    run = shutil.copytree(trained_run, tmp_path / "run")
    assert main(["evaluate", str(run), "--corpus", str(corpus_folder)]) == 0
    result = json.loads((run / "evaluation.json").read_text())
    assert "SIMULATED" in capsys.readouterr().out and result
    kept = (run / "evaluation.json").read_bytes()
    assert main(["evaluate", str(run), "--corpus", str(corpus_folder), "--split", "val",
                 "--max-samples", "12"]) == 0
    assert (run / "evaluation.json").read_bytes() == kept
    assert "chose the best checkpoint" in json.loads(
        (run / "evaluation-val.json").read_text())["note"]
    capsys.readouterr()
    out = tmp_path / "night.html"
    assert main(["describe", str(run), str(simulated_folder / "sim-3-0004.edf"),
                 "--out", str(out)]) == 0
    said = capsys.readouterr().out
    people = json.loads((run / "run.json").read_text())["corpus"]["subjects"]
    seen = next((s for s in ("train", "val") if any("0004" in p for p in people[s])), None)
    assert ("trained on this person" in said) == (seen == "train")
    assert ("This person chose" in said) == (seen == "val")
    assert "reading sim-3-0004.edf" in said and "reading with the model: 100 %" in said
    assert "simulated" in out.read_text().lower()
    assert out.with_suffix(".png").stat().st_size > 10_000


def test_caption_writes_a_line_for_every_epoch_and_kind(
    trained_run, simulated_folder, tmp_path, capsys
):
    out = tmp_path / "captions.jsonl"
    arguments = ["caption", str(trained_run), str(simulated_folder / "sim-3-0004.edf"), "--out",
                 str(out), "--kinds", "brain+heart", "stage_event", "--max-tokens", "8"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert {line["kind"] for line in lines} == {"brain+heart", "stage_event"}
    assert "epochs: 100 %" in said and f"{len(lines):,} texts in {out}" in said
    assert main([*arguments, "--beams", "2", "--temperature", "1"]) == 2
    assert "decoding.temperature" in capsys.readouterr().err
    assert main([*arguments, "--kinds", "liver"]) == 2
    assert "is no kind of caption" in capsys.readouterr().err
