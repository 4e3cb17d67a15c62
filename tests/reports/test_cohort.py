"""The cohort page says what the nights' records say, shows it, and loads nothing."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from sleeplm_jax.cli import main
from sleeplm_jax.config import CANONICAL_CHANNELS
from sleeplm_jax.errors import CorpusError
from sleeplm_jax.reports import cohort, cohort_figures
from sleeplm_jax.reports.cohort import cohort_page, read_records, worst_nights


class Page(HTMLParser):
    """Texts and image sources of a page; every tag that is opened is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.texts, self.images = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.images.append(dict(attributes))
        elif tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def page(corpus_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "cohort.html"
    found = cohort_page(corpus_folder, out)
    return found, out.read_text(encoding="utf-8")


def test_the_page_shows_a_simulated_cohort(page):
    found, text = page
    shown = Page(text)
    assert found["nights"] == 5 and set(found["staging"]) == {"simulated"}
    assert "Simulated nights: no person slept them" in shown.words
    assert "simulated: 5 nights" in shown.words
    assert {"Channels found in each night", "Artefact shares", "Stage mix", "Sleep statistics",
            "Amplitudes"} <= {image["alt"] for image in shown.images}
    for image in shown.images:
        assert image["src"].startswith("data:image/png;base64,iVBOR")  # a PNG's first bytes
    assert "ECG 5 (100 %)" in shown.words


def test_the_page_loads_nothing_and_names_no_path(page, corpus_folder):
    _, text = page
    text = re.sub(r"base64,[A-Za-z0-9+/=]+", "", text)
    assert not re.search(r"https?://|<script|<link|url\(", text)
    assert str(corpus_folder) not in text and "default-src 'none'" in text


def test_every_night_has_a_record_that_agrees_with_the_manifest(corpus_folder, corpus):
    records = read_records(corpus_folder)
    assert list(records) == [night["night"] for night in corpus.nights()]
    for night in corpus.nights():
        record = records[night["night"]]
        assert record["epochs"] == night["epochs"] and record["flags"] == night["flags"]
        scored = {s: n for s, n in record["stages"].items() if n}
        assert scored == night["stages"]  # no epoch of these nights is left out
        assert {c: a and a["source"] for c, a in record["channels"].items()} == night["channels"]


def test_the_command_writes_the_page_and_the_records(corpus_folder, tmp_path, capsys):
    out = tmp_path / "a.html"
    arguments = ["quality", str(corpus_folder), "--out", str(out), "--records", str(tmp_path / "r")]
    assert main(arguments) == 0
    assert "5 nights" in capsys.readouterr().out
    records = read_records(corpus_folder)
    assert {p.stem: json.loads(p.read_text()) for p in (tmp_path / "r").iterdir()} == records
    assert main(["quality", str(corpus_folder), "--out", str(tmp_path / "a.txt")]) == 2
    assert main(["quality", str(tmp_path)]) == 2
    assert "holds no corpus" in capsys.readouterr().err


def test_a_night_without_a_record_is_named(corpus_folder, tmp_path):
    import shutil

    shutil.copytree(corpus_folder, tmp_path / "c")
    (tmp_path / "c" / "nights" / "sim-3-0002.json").unlink()
    with pytest.raises(CorpusError, match=r"no quality record of 1 of 5 nights \(sim-3-0002\)"):
        read_records(tmp_path / "c")


# ---- Records made by hand


def record(cohort_name="a", flags=(), delta=(50, 55, 70, 90, 52), epochs=60, lost=0.0, absent=()):
    """A record with 60 epochs of each stage; `lost` of C3's epochs cannot be measured."""
    stages = ("W", "N1", "N2", "N3", "R")
    order = [("N3", "N2"), ("N3", "R"), ("N2", "R")]
    level = dict(zip(stages, delta))
    return {
        "cohort": cohort_name, "simulated": False, "epochs": 5 * epochs, "epoch_s": 30,
        "channels": {
            c: None if c in absent or c == "O2" else {
                "source": c, "stand_in": c == "O1", "rate": 256.0, "file_unit": "uV", "unit": "µV",
                "range": 50.0, "unmeasured": lost if c == "C3" else 0.0,
                "artefacts": {"lead_off": lost} if c == "C3" and lost else {},
            } for c in CANONICAL_CHANNELS
        },
        "polarity": {"ecg": "up", "belts": {"correlation": -0.8, "pieces": 50},
                     "thorax_flow": None, "abdomen_flow": None, "odd": None},
        "stages": {s: epochs for s in stages} | {"unscored": 0, "movement": 0},
        "staging": {
            "stages": {s: {"epochs": epochs, "delta_power": level[s]} for s in stages},
            "order": [{"feature": "delta_power", "more": a, "less": b,
                       "share": 0.9 if level[a] > level[b] else 0.1, "error": 0.05}
                      for a, b in order],
            "rem_at_onset": False,
        },
        "statistics": {
            "sleep": {"measures": {name: {"value": 300.0, "unit": "min"} for name in (
                "TST", "SE", "SOL", "WASO", "REM_latency", "N3_percent", "REM_percent")}},
            "ahi": {"all": {"value": 12.0}, "4%": {"value": None}},
        },
        "flags": list(flags),
    }  # fmt: skip


def page_of(nights, tmp_path, monkeypatch):
    monkeypatch.setattr(cohort, "read_records", lambda corpus: nights)
    found = cohort_page("nowhere", tmp_path / "p.html")
    return found, Page((tmp_path / "p.html").read_text())


def test_each_cohort_is_judged_by_itself(tmp_path, monkeypatch):
    nights = {f"a{i}": record() for i in range(4)}
    nights |= {f"b{i}": record("b", delta=(50, 55, 70, 52, 90)) for i in range(3)}
    found, shown = page_of(nights, tmp_path, monkeypatch)
    assert found["staging"]["a"]["verdict"] == "plausible"
    assert found["staging"]["b"]["verdict"] == "doubtful"
    assert "b: doubtful" in shown.words and "a: plausible" in shown.words
    assert "delta power is lower in N3 than in R" in shown.words
    assert "opposed: 7" in shown.words


def test_flags_are_counted_by_nights_and_shown_with_an_example(tmp_path, monkeypatch):
    nights = {
        "one": record(flags=["stand_in: C3 is EEG", "stand_in: EMG is X", "truncated: by 5"]),
        "two": record(flags=["stand_in: C3 is EEG <b>"]), "three": record(),
    }
    found, shown = page_of(nights, tmp_path, monkeypatch)
    assert found["flags"] == {"stand_in": 2, "truncated": 1} and found["flagged"] == 2
    assert "stand_in 2 stand_in: C3 is EEG" in shown.words


def test_the_worst_nights_come_first_with_why():
    nights = {
        "clean": record(), "lossy": record(lost=0.5), "few": record(lost=0.3),
        "blind": record(absent=("EOG-L", "EOG-R")),
        "odd": record(flags=["staging_doubtful: x", "inverted_breathing: y", "unscored: z"]),
    }
    rows = worst_nights(nights)
    assert [row["night"] for row in rows] == ["odd", "blind", "lossy", "few"]
    assert rows[0]["why"] == ["staging_doubtful: x", "inverted_breathing: y"]
    assert rows[1]["why"] == ["no EOG"] and rows[2]["why"] == ["not measured: C3 50 %"]
    assert rows[2]["unmeasured"] == pytest.approx(0.5 / 18, abs=1e-4)
    many = {f"n{i:03}": record(lost=0.3) for i in range(100)}
    assert len(worst_nights(many)) == cohort.WORST


def test_pictures_hold_many_nights_and_none_where_nothing_is_scored():
    many = {f"n{i:03}": record() for i in range(300)}
    empty = record()
    empty["stages"] = dict.fromkeys(empty["stages"], 0)
    empty["staging"]["stages"] = {s: {"epochs": 0} for s in ("W", "N1", "N2", "N3", "R")}
    empty["statistics"] = None
    for draw in (cohort_figures.channels, cohort_figures.artefacts, cohort_figures.amplitudes,
                 cohort_figures.stages, cohort_figures.delta, cohort_figures.statistics):
        assert draw(many)[:4] == b"\x89PNG"
    for draw in (cohort_figures.stages, cohort_figures.delta, cohort_figures.statistics):
        assert draw({"n": empty}) is None


def test_statistics_leave_out_what_cannot_be_given():
    values = {label: v for label, _, v in cohort_figures.statistic_values([record(), record()])}
    np.testing.assert_array_equal(values["AHI, all"], [12.0, 12.0])
    assert len(values["AHI, 4%"]) == 0 and len(values["N3"]) == 2
