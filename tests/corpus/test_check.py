"""`sleeplm corpus check`: every kind of leak is planted, and found; without one nothing is."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from sleeplm_jax.cli import main
from sleeplm_jax.config import SignalSpec
from sleeplm_jax.corpus.check import check_corpus
from sleeplm_jax.corpus.fingerprints import (
    NO_PRINT,
    epoch_print,
    shared_prints,
    signals_sha256,
)
from sleeplm_jax.corpus.jobs import night_file
from sleeplm_jax.corpus.manifest import Corpus
from sleeplm_jax.corpus.nightfile import CLIP, quantise, read_night
from sleeplm_jax.corpus.packing import commit, corpus_hash
from sleeplm_jax.corpus.prepare import prepare_corpus
from sleeplm_jax.corpus.tokenizer import train_tokenizer
from sleeplm_jax.errors import CorpusError
from sleeplm_jax.files import file_sha256
from tests.corpus import handmade

SPEC = SignalSpec()


def findings(path):
    return {c.name: " | ".join(c.findings) for c in check_corpus(path, progress=False)
            if c.findings}  # fmt: skip


def notes(path):
    return {c.name: " | ".join(c.notes) for c in check_corpus(path, progress=False) if c.notes}


@pytest.fixture
def packed(corpus_folder, tmp_path):
    """Packs rows as they are given, whatever they say: a corpus as a faulty tool would make it."""
    nights = tmp_path / "nights"
    shutil.copytree(corpus_folder / "nights", nights)

    def pack(rows, name="corpus"):
        out = tmp_path / name
        rows = sorted(rows, key=lambda row: (row["cohort"], row["night"]))
        commit(rows, SPEC, out, nights, corpus_hash(rows, SPEC), {}, progress=False)
        return out

    pack.nights = nights
    return pack


def test_a_corpus_without_a_leak_has_no_findings(corpus_folder, capsys):
    found = check_corpus(corpus_folder, progress=False)
    assert [c.name for c in found] == ["shards", "samples", "subjects", "families", "duplicates",
                                       "parts", "tokenizer", "normalisation"]  # fmt: skip
    assert not any(c.findings or c.notes for c in found), found
    assert main(["corpus", "check", str(corpus_folder)]) == 0
    said = capsys.readouterr().out
    assert "300 samples of 5 nights" in said and "a leak" not in said


def test_a_person_in_two_splits_is_found(corpus, packed, capsys):
    rows = [dict(row) for row in corpus.nights()]
    tested = next(row for row in rows if row["split"] == "test")
    trained = next(row for row in rows if row["split"] == "train")
    trained["subject"] = tested["subject"]
    out = packed(rows)
    assert f"simulated/{tested['subject']} is in test and train" in findings(out)["subjects"]
    assert main(["corpus", "check", str(out)]) == 1
    line = [x for x in capsys.readouterr().out.splitlines() if x.startswith("subjects: ")]
    assert line and "is in test and train" in line[0]


def test_a_person_whom_only_the_shards_show_in_two_splits_is_found(corpus, packed):
    rows = [dict(row) for row in corpus.nights()]
    out = packed(rows)
    manifest = json.loads((out / "corpus.json").read_text())
    a, b = (next(r for r in manifest["nights"] if r["split"] == s) for s in ("train", "test"))
    a["split"], b["split"] = b["split"], a["split"]  # the manifest lies about the shards
    (out / "corpus.json").write_text(json.dumps(manifest))
    found = findings(out)
    assert set(found) == {"samples", "subjects"}
    assert "the manifest names none there" in found["samples"]


def test_a_family_in_two_splits_is_found(corpus, packed):
    rows = [dict(row) for row in corpus.nights()]
    for row in rows:
        if row["split"] != "train" or row["night"] == rows[0]["night"]:
            row["family"] = "F7" if row["split"] in ("test", "train") else "F8"
    out = packed(rows)
    assert list(findings(out)) == ["families"]
    assert "simulated/F7" in findings(out)["families"] and "F8" not in findings(out)["families"]


def test_one_person_in_two_visits_cohorts_is_found(corpus, packed):
    rows = [dict(row) for row in corpus.nights()]
    for row, cohort in ((next(r for r in rows if r["split"] == s), c)
                        for s, c in (("train", "shhs1"), ("test", "shhs2"))):
        row |= {"cohort": cohort, "subject": "shhs-200001"}
    assert "shhs1/shhs-200001 is in train" in findings(packed(rows))["families"]


def cut(source, target, first, last):
    """Writes the seconds `first` to `last` of an EDF of one-second records."""
    data = source.read_bytes()
    head, records = int(data[184:192]), int(data[236:244])
    size = (len(data) - head) // records
    header = bytearray(data[:head])
    header[236:244] = str(last - first).encode().ljust(8)
    target.write_bytes(bytes(header) + data[head + first * size : head + last * size])


@pytest.fixture(scope="module")
def copied(simulated_folder, tmp_path_factory):
    """A night, a renamed and rescored copy, the same cut to 20 minutes at 5, and two others."""
    folder = tmp_path_factory.mktemp("copied")
    for name in ("sim-3-0000", "sim-3-0001"):
        for suffix in (".edf", ".xml"):
            shutil.copy(simulated_folder / f"{name}{suffix}", folder)
    shutil.copy(simulated_folder / "sim-3-0000.edf", folder / "renamed.edf")
    scoring = (simulated_folder / "sim-3-0000.xml").read_text()
    (folder / "renamed.xml").write_text(scoring.replace("<SleepStage>2<", "<SleepStage>1<"))
    cut(simulated_folder / "sim-3-0000.edf", folder / "part.edf", 300, 1500)
    return folder


def split_file(tmp_path, **splits):
    path = tmp_path / "splits.json"
    path.write_text(json.dumps({name.replace("_", "-"): s for name, s in splits.items()}))
    return path


def test_a_renamed_rescored_copy_and_a_cut_one_are_found(copied, tmp_path):
    out = tmp_path / "corpus"
    placed = split_file(tmp_path, sim_3_0000="train", sim_3_0001="train", renamed="test",
                        part="val")  # fmt: skip
    result = prepare_corpus([copied], out, workers=1, progress=False, splits_file=placed)
    rows = {row["night"]: row for row in result.corpus.nights()}
    assert rows["renamed"]["sha256"] != rows["sim-3-0000"]["sha256"]
    assert rows["renamed"]["signals_sha256"] == rows["sim-3-0000"]["signals_sha256"]
    assert rows["part"]["signals_sha256"] != rows["sim-3-0000"]["signals_sha256"]
    found = findings(out)
    assert "renamed (test) and sim-3-0000 (train) hold the same signals" in found["duplicates"]
    shared = next(line for line in found["parts"].split(" | ") if "part (val)" in line)
    # 40 epochs; the filters' edges and clipping under another scale may cost some their print
    assert 36 <= int(shared.split("share ")[1].split()[0]) <= 40
    assert "sim-3-0001" not in str(found) and set(found) == {"duplicates", "parts"}
    placed = split_file(tmp_path, sim_3_0000="train", sim_3_0001="test", renamed="train",
                        part="train")  # fmt: skip
    prepare_corpus([copied], out, workers=1, progress=False, splits_file=placed)
    assert findings(out) == {} and set(notes(out)) == {"duplicates", "parts"}


def test_a_tokenizer_that_read_another_split_is_found(corpus, packed):
    rows = [dict(row) for row in corpus.nights()]
    honest = packed(rows)
    train_tokenizer(Corpus.open(honest), vocab_size=600)
    assert findings(honest) == {}
    everything = packed([row | {"split": "train"} for row in rows], "leaking")
    train_tokenizer(Corpus.open(everything), vocab_size=600)
    for name in ("tokenizer.model", "tokenizer.json"):
        shutil.copy(everything / name, honest)
    assert "an earlier state of the corpus" in findings(honest)["tokenizer"]
    about = json.loads((honest / "tokenizer.json").read_text())
    about["corpus"] = Corpus.open(honest).hash  # as one would that wants to pass
    (honest / "tokenizer.json").write_text(json.dumps(about))
    assert "not the one that the train split gives" in findings(honest)["tokenizer"]
    about["settings"]["captions"] = "0" * 64
    (honest / "tokenizer.json").write_text(json.dumps(about))
    assert "cannot be proved" in findings(honest)["tokenizer"]


def doctored(packed, corpus, change):
    """The corpus with each night's samples as `change(night)` makes them: (signals z, scale)."""
    rows = []
    for row in corpus.nights():
        path = night_file(packed.nights, row["night"])
        night = read_night(path)
        signals, scale = change(night)
        with np.load(path) as archive:
            entries = {name: archive[name] for name in archive.files}
        entries |= {"signals": quantise(np.clip(signals, -CLIP, CLIP), SPEC.channels),
                    "scale": scale.astype(np.float32)}  # fmt: skip
        np.savez(path, **entries)
        rows.append({**row, "sha256": file_sha256(path),
                     "signals_sha256": signals_sha256(entries["signals"], night.mask)})  # fmt: skip
    return packed(rows)


def test_statistics_of_the_whole_corpus_are_found(corpus, packed):
    factors = iter((0.2, 0.5, 1.0, 2.0, 0.3))  # the nights' amplitudes differ, as they do

    def change(night):
        z = night.signals * (CLIP / 32767)
        z[:, -1] = night.signals[:, -1]
        z[:, :-1] *= next(factors)
        return z, np.full_like(night.scale, 20.0)

    found = findings(doctored(packed, corpus, change))
    assert "ECG is scaled alike in 5 of 5 nights (20)" in found["normalisation"]
    assert set(found) == {"normalisation"}


def test_nights_that_are_not_scaled_by_themselves_are_found(corpus, packed):
    def change(night):
        z = night.signals * (CLIP / 32767)
        z[:, -1] = night.signals[:, -1]
        z[:, SPEC.channels.index("C3")] *= 0.3
        return z, night.scale

    found = findings(doctored(packed, corpus, change))
    assert "C3 is not scaled by the nights' own statistics in 5 of 5" in found["normalisation"]


def test_damage_is_a_finding_not_a_traceback(corpus, corpus_folder, tmp_path, capsys):
    out = shutil.copytree(corpus_folder, tmp_path / "own")
    shard = next((out / corpus.manifest["shards"]["folder"]).glob("*train.array_record*"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    assert "SHA-256 differs" in findings(out)["shards"]
    shard.unlink()
    assert "shard is missing" in findings(out)["shards"]
    assert main(["corpus", "check", str(out)]) == 1
    with pytest.raises(CorpusError, match="holds no corpus"):
        check_corpus(tmp_path)


def test_the_hash_is_of_signals_and_mask_alone():
    night = handmade.night(epochs=6)
    signals = quantise(night.signals, SPEC.channels)
    wanted = signals_sha256(signals, night.mask)
    assert wanted == signals_sha256(signals.copy(order="F"), night.mask)
    gone = night.mask.copy()
    gone[2] = False  # an epoch that is no sample
    other = signals.copy()
    other[2] += 1
    assert signals_sha256(other, gone) == signals_sha256(signals, gone) != wanted
    other = signals.copy()
    other[3, 0, 5] += 1
    mask = night.mask.copy()
    mask[3, 0] = False
    assert len({wanted, signals_sha256(other, night.mask), signals_sha256(signals, mask)}) == 3


def test_prints_survive_another_scale_and_offset_and_tell_nights_apart():
    """Independent noise: no epoch of another night has the same print. 200 epochs each."""
    night, other = handmade.night(epochs=200, seed=1), handmade.night(epochs=200, seed=2)

    def prints(z, mask=night.mask):
        q = quantise(np.clip(z, -CLIP, CLIP), SPEC.channels)
        return np.array([epoch_print(s, m, SPEC.channels) for s, m in zip(q, mask, strict=True)])

    own = prints(night.signals / 3)
    assert len(set(own.tolist())) == 200 and NO_PRINT not in own
    assert (prints(night.signals * 0.21 + 0.4) == own).mean() > 0.95
    assert shared_prints([own, prints(other.signals / 3)]) == []
    assert shared_prints([own[50:90], prints(other.signals / 3), own]) == [(0, 2, 40)]
    flat = replace(night, signals=np.zeros_like(night.signals))
    assert set(prints(flat.signals).tolist()) == {0}
    assert shared_prints([prints(flat.signals)] * 3) == []
