import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from sleeplm_jax.config import CANONICAL_CHANNELS, SignalSpec
from sleeplm_jax.corpus import builder
from sleeplm_jax.corpus.builder import PackedNight, pack
from sleeplm_jax.corpus.manifest import Source
from sleeplm_jax.corpus.nightfile import quantise, write_night
from sleeplm_jax.errors import CorpusError
from tests.corpus import handmade


def written(folder, *nights):
    rows = []
    for night in nights:
        path = folder / f"{night.recording}.npz"
        write_night(night, handmade.records(night), path)
        rows.append(PackedNight(path, int(night.mask.any(axis=1).sum())))
    return rows


def test_samples_hold_what_the_nights_held_in_their_order(tmp_path):
    nights = [handmade.night(3, seed, f"n{seed}") for seed in (2, 1)]
    shards = pack({"train": written(tmp_path, *nights)}, nights[0].spec, tmp_path / "out")
    source = Source(shards, "train")
    assert len(source) == 6
    for i in range(6):
        night, epoch = nights[i // 3], i % 3
        sample = source[i]
        wanted = quantise(night.signals[epoch], night.spec.channels)
        np.testing.assert_array_equal(sample["signal"], wanted)
        assert sample["signal"].dtype == np.int16
        np.testing.assert_array_equal(sample["mask"], night.mask[epoch])
        assert sample["artefact"].tolist() == [0] * 10
        np.testing.assert_array_equal(sample["scale"], night.scale)
        assert (sample["recording"], sample["epoch"]) == (night.recording, epoch)
        assert sample["stage"] == night.stages[epoch]
        assert sample["record"] == handmade.records(night)[epoch]


def test_artefact_bits_travel_in_the_order_of_the_samples_channels(tmp_path):
    spec = SignalSpec(channels=("O2", "C4", "ECG", "POS"))
    night = handmade.night(3, spec=spec)
    bits = np.random.default_rng(4).integers(0, 256, (3, len(CANONICAL_CHANNELS)), np.uint8)
    night = replace(night, artefacts=bits)
    source = Source(pack({"train": written(tmp_path, night)}, spec, tmp_path / "out"), "train")
    for epoch in range(3):
        wanted = [bits[epoch, CANONICAL_CHANNELS.index(name)] for name in spec.channels]
        assert source[epoch]["artefact"].dtype == np.uint8
        assert source[epoch]["artefact"].tolist() == wanted


def test_epochs_without_any_channel_are_left_out(tmp_path):
    night = handmade.night(4)
    night.mask[1] = False
    shards = pack({"val": written(tmp_path, night)}, night.spec, tmp_path / "out")
    assert [Source(shards, "val")[i]["epoch"] for i in range(3)] == [0, 2, 3]
    assert len(Source(shards, "val")) == 3


def test_unscored_epochs_are_kept(tmp_path):
    night = handmade.night(2)
    night.stages[:] = [-1, -2]
    shards = pack({"test": written(tmp_path, night)}, night.spec, tmp_path / "out")
    assert [Source(shards, "test")[i]["stage"] for i in range(2)] == [-1, -2]


def test_several_shards_keep_the_order_and_stay_near_the_wanted_size(tmp_path, monkeypatch):
    monkeypatch.setattr(builder, "SHARD_BYTES", 5 * 2 * 10 * 1920)  # five samples
    nights = [handmade.night(3, seed, f"n{seed}") for seed in range(5)]
    told = []
    rows = written(tmp_path, *nights)
    shards = pack({"train": rows, "val": rows[:1]}, SignalSpec(), tmp_path / "out", told.append)
    names = sorted(p.name for p in shards.glob("*train*"))
    assert len(names) == 3  # 6, 6 and 3 samples: whole nights
    source = Source(shards, "train")
    got = [(source[i]["recording"], source[i]["epoch"]) for i in range(len(source))]
    assert got == [(f"n{seed}", epoch) for seed in range(5) for epoch in range(3)]
    assert sum(told) == 18


def test_tensorflow_is_not_needed_past_a_gigabyte(tmp_path, monkeypatch):
    # Where TFDS would begin to write temporary files with TensorFlow; here at 100 kB.
    from tensorflow_datasets.core import shuffle

    monkeypatch.setattr(shuffle, "MAX_MEM_BUFFER_SIZE", 100_000)
    night = handmade.night(10)
    shards = pack({"train": written(tmp_path, night)}, night.spec, tmp_path / "out")
    assert [Source(shards, "train")[i]["epoch"] for i in range(10)] == list(range(10))
    assert "tensorflow" not in sys.modules


def test_other_shapes_and_text(tmp_path):
    spec = SignalSpec(("C3", "C4", "POS"), rate=32, seconds=10)
    night = handmade.night(2, spec=spec)
    shards = pack({"train": written(tmp_path, night)}, spec, tmp_path / "out")
    assert Source(shards, "train")[1]["signal"].shape == (3, 320)
    assert json.loads((shards / "features.json").read_text())


def test_packing_twice_gives_the_same_shards(tmp_path):
    rows = written(tmp_path, handmade.night(3))
    first, second = (pack({"train": rows}, SignalSpec(), tmp_path / n) for n in ("a", "b"))
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name


def test_packing_says_nothing_on_stdout(tmp_path, capsys):
    pack({"train": written(tmp_path, handmade.night(1))}, SignalSpec(), tmp_path / "out")
    assert capsys.readouterr() == ("", "")


def test_a_damaged_night_stops_the_packing(tmp_path):
    rows = written(tmp_path, handmade.night(1))
    rows[0].path.write_bytes(b"no zip")
    with pytest.raises(CorpusError, match="damaged night file"):
        pack({"train": rows}, SignalSpec(), tmp_path / "out")
