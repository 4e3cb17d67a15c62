"""Nights chosen on purpose: the corpus says by whom, and refuses the chooser as a baseline."""

import json

import pytest

from sleeplm_jax.corpus.discovery import Found
from sleeplm_jax.corpus.manifest import Corpus
from sleeplm_jax.corpus.prepare import prepare_corpus
from sleeplm_jax.corpus.selection import read_selection, refuse_baseline, select
from sleeplm_jax.errors import CorpusError


def written(path, **more):
    content = {"selected_by": "YASA 0.6.5", "why": "kappa over 0.6", "recordings": ["a", "b"]}
    path.write_text(json.dumps(content | more))
    return path


def found(tmp_path, *stems):
    return [Found(tmp_path / f"{stem}.edf", stem, None) for stem in stems]


def test_the_recordings_named_are_kept_and_counted(tmp_path):
    kept, about = select(found(tmp_path, "c", "b", "a"), written(tmp_path / "s.json"))
    assert [f.night for f in kept] == ["b", "a"]
    assert about == {"selected_by": "YASA 0.6.5", "why": "kappa over 0.6", "given": 3, "kept": 2}


@pytest.mark.parametrize(("change", "finding"), [
    ({"selected_by": None}, "does not say 'selected_by'"),
    ({"selected_by": " "}, "does not say 'selected_by'"),
    ({"why": ""}, "does not say 'why'"),
    ({"recordings": []}, "lists no recordings"),
    ({"recordings": [3]}, "lists no recordings"),
])  # fmt: skip
def test_an_incomplete_selection_is_refused(tmp_path, change, finding):
    with pytest.raises(CorpusError, match=finding):
        read_selection(written(tmp_path / "s.json", **change))


def test_what_is_no_selection_is_refused(tmp_path):
    with pytest.raises(CorpusError, match="cannot be read"):
        read_selection(tmp_path / "none.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(CorpusError, match="is no JSON object"):
        read_selection(tmp_path / "list.json")
    with pytest.raises(CorpusError, match="names recordings that are not there: b"):
        select(found(tmp_path, "a"), written(tmp_path / "s.json"))


@pytest.mark.parametrize("stager", ["YASA", "yasa", "Yasa v0.7", "YASA-0.6"])
def test_the_selecting_stager_is_no_baseline(stager):
    manifest = {"selection": {"selected_by": "YASA 0.6.5", "why": "kappa over 0.6"}}
    with pytest.raises(CorpusError, match="cannot be a baseline"):
        refuse_baseline(manifest, stager, "corpus")


def test_other_baselines_and_unselected_corpora_are_fine():
    manifest = {"selection": {"selected_by": "two technologists", "why": "signal quality"}}
    refuse_baseline(manifest, "YASA", "corpus")
    refuse_baseline({"selection": None}, "YASA", "corpus")
    refuse_baseline({}, "YASA", "corpus")
    manifest = {"selection": {"selected_by": "U-Sleep 2.0", "why": "confident"}}
    refuse_baseline(manifest, "YASA", "corpus")
    with pytest.raises(CorpusError):
        refuse_baseline(manifest, "usleep", "corpus")


def test_a_corpus_says_how_its_nights_were_selected(simulated_folder, tmp_path):
    chosen = written(tmp_path / "s.json", recordings=["sim-3-0000", "sim-3-0003"])

    def prepared(**more):
        return prepare_corpus(
            [simulated_folder], tmp_path / "c", workers=1, progress=False, **more
        )

    corpus = prepared(selection_file=chosen).corpus
    assert [n["night"] for n in corpus.nights()] == ["sim-3-0000", "sim-3-0003"]
    assert corpus.manifest["selection"]["given"] == 5
    with pytest.raises(CorpusError, match="its nights were selected by 'YASA 0.6.5'"):
        Corpus.open(tmp_path / "c").refuse_baseline("yasa")
    # The same nights by somebody else's choice are another state of the corpus.
    other = prepared(selection_file=written(
        tmp_path / "t.json", selected_by="a technologist", recordings=["sim-3-0000", "sim-3-0003"]
    ))
    assert other.packed and other.prepared == ()
    other.corpus.refuse_baseline("yasa")
