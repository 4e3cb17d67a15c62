"""An edit of a packaged montage prepares the nights again that it reads, and no others."""

import shutil
from pathlib import Path

import pytest

from sleeplm_jax.config import SignalSpec
from sleeplm_jax.corpus.discovery import code_version
from sleeplm_jax.corpus.plan import plan
from sleeplm_jax.corpus.prepare import prepare_corpus, survey
from sleeplm_jax.recordings import montage as tables
from sleeplm_jax.recordings import montage_hash
from sleeplm_jax.recordings.trim import Trim
from tests.recordings.edf_files import c3, write

HOW = {"spec": SignalSpec(channels=("C3",)), "trim": Trim("none")}
OURS = "name: ours\ndescription: a laboratory's own\nextends: mros1\nchannels:\n" \
       "  C3: [{expr: C3-M2, citation: ours}]\n"
AGAIN = "the montage hmc changed"
RULES = "other rules for which montage a recording gets"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A corpus of one night that HMC's montage reads and one that the generic one reads."""
    folder = tmp_path_factory.mktemp("recordings")
    labels = ["EEG F4-M1", "EEG C4-M1", "EEG O2-M1", "EEG C3-M2", "EMG chin", "EOG E1-M2",
              "EOG E2-M2", "ECG"]  # fmt: skip
    write(folder / "SN001.edf", [c3(60, label) for label in labels])
    write(folder / "other.edf", [c3(60)])
    corpora = tmp_path_factory.mktemp("corpora")
    mine = corpora / "ours.yaml"
    mine.write_text(OURS)
    for name, more in (("auto", {}), ("mros", {"montage": mine}), ("hmc", {"cohort": "hmc"})):
        result = prepare_corpus(
            [folder], corpora / name, workers=1, progress=False, **HOW, **more
        )
        assert not result.failed
    return folder, corpora


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """A copy of the package's tables, which this process takes for them; edit(name, old, new)."""
    copy = tmp_path / "package"
    shutil.copytree(Path(tables.__file__).parent / "montages", copy / "montages")

    def forget():
        for cached in (tables.packaged_montages, montage_hash.packaged_sha256,
                       montage_hash.choice_sha256):
            cached.cache_clear()

    def edit(name, old, new):
        path = copy / "montages" / f"{name}.yaml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))
        forget()

    monkeypatch.setattr(tables.resources, "files", lambda package: copy)
    forget()
    yield edit
    monkeypatch.undo()
    forget()


def again(prepared, name="auto", **more):
    """{night: why it would be prepared again, None where it would not}."""
    folder, corpora = prepared
    found = plan(survey([folder], corpora / name, **HOW, **more))
    assert {night.kind for night in found.nights} <= {"unchanged", "changed"}
    return {n.night: n.reason if n.kind == "changed" else None for n in found.nights}


def test_without_an_edit_nothing_is_prepared_again(prepared, packaged):
    assert again(prepared) == {"SN001": None, "other": None}


def test_a_row_of_a_table_concerns_the_nights_that_it_reads(prepared, packaged):
    packaged("hmc", "  ECG:\n    - {expr: ECG,", "  ECG:\n    - {expr: ECG, polarity: -1,")
    assert again(prepared) == {"SN001": AGAIN, "other": None}
    assert again(prepared, "hmc", cohort="hmc") == {"SN001": AGAIN, "other": AGAIN}
    assert set(again(prepared, "mros", montage=prepared[1] / "ours.yaml").values()) == {None}


def test_a_comment_concerns_none(prepared, packaged):
    packaged("hmc", "name: hmc", "# a comment\nname: hmc")
    assert again(prepared) == {"SN001": None, "other": None}


def test_a_table_that_a_given_one_extends_is_part_of_it(prepared, packaged):
    ours = prepared[1] / "ours.yaml"
    packaged("mros1", "scoring:\n", "scoring:\n  rules: AASM 9\n")
    found = again(prepared, "mros", montage=ours)
    assert found == {"SN001": "another montage", "other": "another montage"}
    assert set(again(prepared).values()) == {None}


def test_which_files_a_table_matches_may_concern_any_night(prepared, packaged):
    packaged("shhs", "matches:\n", "matches:\n  - labels: [C3-M2]\n")
    found = again(prepared)
    assert found["SN001"] == RULES and RULES in found["other"]
    # A named cohort chooses among its own tables only, and a given one is not chosen.
    assert set(again(prepared, "hmc", cohort="hmc").values()) == {None}
    assert set(again(prepared, "mros", montage=prepared[1] / "ours.yaml").values()) == {None}


def test_the_code_hash_leaves_tables_out_and_nothing_else_of_the_reading(monkeypatch):
    from sleeplm_jax.corpus import discovery

    seen = []
    real = discovery.file_sha256
    monkeypatch.setattr(discovery, "file_sha256", lambda path: seen.append(path) or real(path))
    code_version.__wrapped__()
    names = {path.name for path in seen}
    assert {"prepare.py", "montage.py", "montage_match.py", "measure.py", "pool.py"} <= names
    assert not [path for path in seen if path.parent.name == "montages"]
