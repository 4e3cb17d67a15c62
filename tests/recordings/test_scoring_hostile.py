"""Scorings that are damaged, absurd or meant ill: one line, soon, within bounded memory."""

import datetime
import json
import time

import numpy as np
import pytest

from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings.events import event_kind
from sleeplm_jax.recordings.night import Dialect
from sleeplm_jax.recordings.plain_text import MAX_LINES, encoding_of
from sleeplm_jax.recordings.scoring import read_scoring
from sleeplm_jax.recordings.stages import stages_from_spans

XML = ("<PSGAnnotation><ScoredEvents><ScoredEvent><EventType>Stages|Stages</EventType>"
       "<EventConcept>Wake|0</EventConcept><Start>{}</Start><Duration>{}</Duration></ScoredEvent>"
       "</ScoredEvents></PSGAnnotation>")  # fmt: skip
CODES = Dialect(stages=(("0", "W"),))


@pytest.mark.parametrize(
    "name, content, finding",
    [
        ("a.xml", XML.format("1e300", 30), "which no recording lasts"),
        ("a.xml", XML.format(0, "1e300"), "which no recording lasts"),
        ("a.xml", XML.format("-1e300", 30), "which no recording lasts"),
        ("a.xml", XML.format("nan", 30), "no usable Start"),
        ("a.xml", XML.format(0, -30), "no usable Start"),
        ("a.xml", "<a>" * 100_000, "not a readable XML"),
        ("a.ids", "0,30,W\ninf,30,W\n", "unknown scoring format|line 2"),
        ("a.ids", "0,30,W\n30,-30,N2\n", "line 2: a duration of -30 s"),
        ("a.ids", "0,30,W\n1e12,30,N2\n", "which no recording lasts"),
        ("a.json", "[" * 100_000, "not a readable JSON"),
        ("a.json", json.dumps([0, 1, 7]), "unknown stage codes: '7'"),
        ("a.json", "[0, 1.5]", "no list of stage codes"),
        ("a.json", "[0, true]", "no list of stage codes"),
        ("a.json", "[]", "no list of stage codes"),
        ("a.json", "[" + "0," * 100_000 + "0]", "has 100001 epochs"),
        ("a.txt", "0\n" * 90_000, "has 90000 epochs"),
        ("a.txt", "W\n" * (2 * MAX_LINES + 1), "more than 300000 lines"),
        ("a.tsv", "onset\tduration\ttrial_type\n-1e9\t30\tW\n", "which no recording lasts"),
        ("a.tsv", 'onset\tduration\ttrial_type\n0\t30\t"W\n30\t30\tW\n', "unknown stage codes"),
        ("a.tsv", "onset\tduration\ttrial_type\n0\t30\tW\n5\t1e9\tarousal\n", "an event at 5 s"),
        ("a.annot", "W\t.\t.\te:999999\t+30\t.\n", "which no recording lasts"),
        ("a.annot", "W\t.\t.\t0\t30\t.\nN2\t.\n", "line 2 has 2 cells"),
        ("a.stg.txt", "1\t0\n99999999\t2\n", "line 2 has no epoch number"),
        ("a.csv", "Start,Stop,StageName\n30,0,Wake\n", "line 2: a duration of -30 s"),
        ("a.csv", "Start Time,Duration (seconds),Event\n25:00:00,30,Wake\n", "no time of day"),
        ("a_stage.txt", "٣\n٤\n", "unknown scoring format|unknown stage codes|digits mean"),
    ],
)
def test_absurd_files_end_in_one_line(tmp_path, name, content, finding):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    began = time.monotonic()
    dialect = CODES if name == "a.txt" and content.startswith("0") else None
    with pytest.raises(RecordingError, match=finding) as caught:
        read_scoring(path, 3600, start=datetime.time(22), dialect=dialect)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000
    assert time.monotonic() - began < 20


def test_entities_are_refused_in_every_xml(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text('<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]>'
                    "<PSGAnnotation>&b;</PSGAnnotation>")  # fmt: skip
    with pytest.raises(RecordingError, match="not a readable XML"):
        read_scoring(path, 30)


def test_files_beyond_a_size_are_not_read(tmp_path):
    path = tmp_path / "a.txt"
    with path.open("wb") as file:
        file.write(b"W\n")
        file.truncate(33 << 20)
    with pytest.raises(RecordingError, match="more than 32 MiB|unknown scoring format"):
        read_scoring(path, 30)
    with (tmp_path / "b.xml").open("wb") as file:
        file.write(b"<a>")
        file.truncate(17 << 20)
    with pytest.raises(RecordingError, match="more than 16 MiB"):
        read_scoring(tmp_path / "b.xml", 30)


def test_many_spans_that_all_overlap_take_seconds(tmp_path):
    """The time grows as n log n, not as n squared: 20,000 spans of a night each."""
    spans = [(float(i), 86_400.0, i % 5) for i in range(20_000)]
    began = time.monotonic()
    stages, flags = stages_from_spans(spans, tmp_path)
    assert time.monotonic() - began < 10 and "overlapping_stages: 19999" in " ".join(flags)
    # A second each until the last begins: equal shares, the stage at the middle. Then the last.
    assert stages[0] == spans[15][2] and stages[-2] == spans[-1][2] and len(stages) == 3547


def test_long_wordings_are_matched_in_bounded_time():
    began = time.monotonic()
    for wording in ("obst " * 20_000, "apnea " * 20_000, "central" * 50_000, "é" * 100_000):
        event_kind(wording)
    assert time.monotonic() - began < 2


def test_encodings_are_told_from_the_first_bytes():
    word = "Événement\n" * 5
    assert encoding_of(word.encode("utf-8")) == "utf-8"
    assert encoding_of(word.encode("latin-1")) == "latin-1"
    assert encoding_of(word.encode("utf-16")) == "utf-16"
    assert encoding_of(word.encode("utf-16-le")) == "utf-16-le"
    assert encoding_of(word.encode("utf-16-be")) == "utf-16-be"
    assert encoding_of(bytes(range(32))) is None and encoding_of(b"") == "utf-8"


def test_a_note_on_which_the_wfdb_library_never_ends(tmp_path):
    import wfdb

    for name, notes in (("a", ["## time resolutXon: 250", "W"]), ("b", ["## x", "W"])):
        wfdb.wrann(name, "st", np.array([0, 7500]), ['"', '"'], aux_note=notes,
                   write_dir=str(tmp_path))  # fmt: skip
        with pytest.raises(RecordingError, match="has definitions that cannot be read"):
            read_scoring(tmp_path / f"{name}.st", 60)
