import itertools
from dataclasses import replace

import numpy as np
import pytest

from sleeplm_jax.captions.parse import parse
from sleeplm_jax.captions.record import caption_keys, stated
from sleeplm_jax.config import CAPTION_KINDS, SLEEPLM_CHANNELS, CaptionMix, DataConfig
from sleeplm_jax.corpus.loader import Loader
from sleeplm_jax.recordings.night import artefact_bits

DATA = DataConfig(text_length=96, pair_probability=0.5, channel_dropout=0.5, prefetch=3)
POSITION = SLEEPLM_CHANNELS.index("POS")


@pytest.fixture(scope="module")
def loader(corpus, tokenizer):
    return Loader(corpus, "train", tokenizer, DATA, seed=5)


def equal(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def joined(*parts):
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def test_form_of_a_batch(loader):
    batch = loader.batch(0, 8)
    form = {name: (array.dtype.name, array.shape) for name, array in batch.items()}
    assert form == {
        "signal": ("float32", (8, 10, 1920)), "channel_mask": ("bool", (8, 10)),
        "artefact": ("uint8", (8, 10)),
        "text": ("int32", (8, 96)), "prefix": ("int32", (8, 2)), "keys": ("int32", (8, 5)),
        "kinds": ("bool", (8, 5)), "stage": ("int32", (8,)), "index": ("int32", (8,)),
    }  # fmt: skip


def test_iterating_from_a_step_goes_on_as_if_never_stopped(loader, corpus, tokenizer):
    straight = list(itertools.islice(loader.iterate(0, 16), 14))  # passes the end of the split
    for step in (0, 7, 13):
        equal(straight[step], loader.batch(step, 16))
    other = Loader(corpus, "train", tokenizer, replace(DATA, workers=5, prefetch=9), seed=5)
    for got, wanted in zip(other.iterate(6, 16), straight[6:]):
        equal(got, wanted)


def test_no_threads_give_the_same_batches(loader, corpus, tokenizer):
    single = Loader(corpus, "train", tokenizer, replace(DATA, workers=0, prefetch=0), seed=5)
    for step, got in zip(range(3), single.iterate(0, 8)):
        equal(got, loader.batch(step, 8))


def test_rows_do_not_depend_on_who_makes_them(loader):
    whole = loader.batch(3, 8)
    equal(whole, joined(loader.batch(3, 8, slice(0, 4)), loader.batch(3, 8, slice(4, 8))))
    shuffled = loader.batch(3, 8, [6, 1])
    equal(shuffled, {name: array[[6, 1]] for name, array in whole.items()})
    equal(next(loader.iterate(3, 8, slice(4, 8))), loader.batch(3, 8, slice(4, 8)))


def test_another_batch_size_keeps_the_sequence_of_samples(loader):
    equal(joined(loader.batch(0, 4), loader.batch(1, 4)), loader.batch(0, 8))


def test_each_pass_holds_every_sample_once_in_another_order(loader):
    n = len(loader)
    first, second = ([loader.position(i) for i in range(p * n, p * n + n)] for p in (0, 1))
    assert sorted(first) == sorted(second) == list(range(n))
    assert first != second and first != sorted(first)


def test_the_seed_decides(loader, corpus, tokenizer):
    same = Loader(corpus, "train", tokenizer, DATA, seed=5)
    other = Loader(corpus, "train", tokenizer, DATA, seed=6)
    equal(same.batch(2, 8), loader.batch(2, 8))
    assert (other.batch(0, 8)["index"] != loader.batch(0, 8)["index"]).any()


def test_wording_is_new_in_each_pass(loader):
    n = len(loader)
    again = [next(i for i in range(p * n, p * n + n) if loader.position(i) == 0) for p in range(6)]
    assert len({loader.sample(i)["caption"] for i in again}) > 2


def test_text_prefix_and_kinds_say_the_same(loader, tokenizer):
    pairs = 0
    for i in range(100):
        sample = loader.sample(i)
        named = [k for k in sample["prefix"] if k >= 0]
        assert sorted(named) == np.flatnonzero(sample["kinds"]).tolist()
        assert (sample["keys"][named] != 0).all() and len(named) in (1, 2)
        if "stage_event" in (kinds := [CAPTION_KINDS[k] for k in named]):
            assert kinds[0] == "stage_event"
        wanted = tokenizer.encode(sample["caption"], 96)
        np.testing.assert_array_equal(sample["text"], wanted)
        pairs += len(named) == 2
    assert 25 < pairs < 75


def test_kinds_are_drawn_by_their_weights(corpus, tokenizer):
    mix = CaptionMix(stage_event=3.0, brain=1.0, heart=0.0, respiratory=0.0, position_muscle=0.0)
    data = DataConfig(captions=mix, pair_probability=0.0, channel_dropout=0.0)
    loader = Loader(corpus, "train", tokenizer, data)
    drawn = [CAPTION_KINDS[loader.sample(i)["prefix"][0]] for i in range(300)]
    assert set(drawn) == {"stage_event", "brain"}
    assert abs(drawn.count("stage_event") / 300 - 0.75) < 0.1  # four standard errors


def test_signals_are_those_of_the_corpus(corpus, tokenizer):
    loader = Loader(corpus, "train", tokenizer, replace(DATA, channel_dropout=0.0))
    source = corpus.source("train")
    batch = loader.batch(0, 16)
    for row, place in enumerate(batch["index"]):
        stored = source[place]
        assert batch["stage"][row] == stored["stage"]
        wanted = stored["signal"][:POSITION] * (6 / 32767)
        np.testing.assert_allclose(batch["signal"][row, :POSITION], wanted, rtol=1e-6)
        np.testing.assert_array_equal(batch["signal"][row, POSITION], stored["signal"][POSITION])
        np.testing.assert_array_equal(batch["channel_mask"][row], stored["mask"])


def test_dropped_channels_are_gone_from_signal_mask_and_words(loader, corpus):
    source, dropped = corpus.source("train"), 0
    for i in range(150):
        sample = loader.sample(i)
        stored = source[int(sample["index"])]["mask"]
        shown = sample["channel_mask"]
        assert shown.any() and not (shown & ~stored).any()
        gone = sample["signal"][~shown]
        assert ((gone == 0) | (gone == -1)).all()
        if not shown[POSITION]:
            assert (sample["signal"][POSITION] == -1).all()
        dropped += (shown != stored).any()
        missing = [c for c, there in zip(SLEEPLM_CHANNELS, shown) if not there]
        if {"C3", "C4", "EOG-L", "EOG-R"} <= set(missing):
            assert sample["keys"][CAPTION_KINDS.index("brain")] == 0
        if "ECG" in missing:
            assert sample["keys"][CAPTION_KINDS.index("heart")] == 0
    assert 50 < dropped < 100  # half, give or take four standard errors


def test_only_named_montages_are_kept_where_some_are_named(corpus, tokenizer):
    data = replace(DATA, channel_dropout=1.0, dropout_keep=("C4", "EOG-L,EOG-R,C3"))
    loader = Loader(corpus, "train", tokenizer, data)
    kept = {
        frozenset(itertools.compress(SLEEPLM_CHANNELS, loader.sample(i)["channel_mask"]))
        for i in range(40)
    }
    assert kept == {frozenset({"C4"}), frozenset({"EOG-L", "EOG-R", "C3"})}


def test_keys_are_equal_just_where_the_same_is_stated(corpus, tokenizer):
    loader = Loader(corpus, "train", tokenizer, replace(DATA, channel_dropout=0.0))
    source = corpus.source("train")
    batch = loader.batch(0, 64)
    wanted = np.stack([caption_keys(source[i]["record"], spec=corpus.spec) for i in batch["index"]])
    np.testing.assert_array_equal(batch["keys"], wanted)
    stage_event = CAPTION_KINDS.index("stage_event")
    same = batch["keys"][:, stage_event, None] == batch["keys"][None, :, stage_event]
    assert same.sum() > 64  # two quiet epochs of a stage
    stages = batch["stage"]
    assert (stages[:, None] == stages[None, :])[same].all()


def test_evaluation_gives_every_sample_once_in_order(corpus, tokenizer):
    loader = Loader(corpus, "test", tokenizer, DATA)
    batches = list(loader.eval_batches(16))
    assert len(batches) == 4  # of 60
    valid = np.concatenate([b["valid"] for b in batches])
    assert valid.sum() == 60 and not valid[60:].any()
    places = np.concatenate([b["index"] for b in batches])
    assert places[valid].tolist() == list(range(60))
    assert (places[~valid] == 59).all()  # the last sample fills the batch: no empty masks
    assert all(b["channel_mask"].all() for b in batches)
    reworded = Loader(corpus, "test", tokenizer, DATA, seed=99).eval_batches(16)
    for one, two in zip(batches, reworded):
        equal(one, two)


def test_evaluation_rows_and_subsets(corpus, tokenizer):
    loader = Loader(corpus, "test", tokenizer, DATA)
    whole = list(loader.eval_batches(16, samples=20))
    parts = zip(
        loader.eval_batches(16, samples=20, rows=slice(0, 8)),
        loader.eval_batches(16, samples=20, rows=slice(8, 16)),
    )
    for batch, two in zip(whole, parts, strict=True):
        equal(batch, joined(*two))
    places = np.concatenate([b["index"][b["valid"]] for b in whole])
    assert len(places) == 20 and places[0] == 0 and places[-1] == 59
    np.testing.assert_array_equal(places, loader.evaluation_positions(20))


@pytest.mark.parametrize("kind", CAPTION_KINDS)
def test_one_kind_can_be_asked_for(corpus, tokenizer, kind):
    loader = Loader(corpus, "test", tokenizer, DATA)
    wanted = CAPTION_KINDS.index(kind)
    for batch in loader.eval_batches(32, kinds=kind):
        said = batch["kinds"].any(axis=1)
        np.testing.assert_array_equal(said, batch["keys"][:, wanted] != 0)
        assert said.any() and (batch["prefix"][said, 0] == wanted).all()
        assert (batch["prefix"][:, 1] == -1).all()
        assert (batch["text"][~said, 2:] == 0).all()
    with pytest.raises(ValueError, match="choose mix"):
        next(loader.eval_batches(4, kinds="pulse"))


def test_a_sample_with_nothing_to_say_gives_its_turn_away(corpus, tokenizer):
    mute = {
        "stage": None, "events": [], "measurements": [], "missing": [], "scored": [],
        "stand_ins": [],
    }  # fmt: skip
    loader = Loader(corpus, "train", tokenizer, DATA)
    silent = loader.position(0)

    class Muted:
        def __init__(self, source, indices):
            self.source, self.indices = source, indices

        def __len__(self):
            return len(self.source)

        def __getitem__(self, index):
            sample = self.source[index]
            return sample | {"record": mute} if index in self.indices else sample

    loader._source = Muted(loader._source, {silent})
    assert loader.sample(0)["index"] == (silent + 1) % len(loader)
    assert loader.sample(0)["kinds"].any()
    loader._source.indices = set(range(len(loader)))
    sample = loader.sample(0)  # none can: an empty text, marked as such
    assert not sample["kinds"].any() and (sample["prefix"] == -1).all()
    assert sample["text"].tolist()[:3] == [1, 2, 0]


def test_gain_jitter_scales_amplitudes_and_leaves_codes_and_order(corpus, tokenizer):
    plain = Loader(corpus, "train", tokenizer, DataConfig(channel_dropout=0.0), 5)
    jittered = Loader(
        corpus, "train", tokenizer, DataConfig(channel_dropout=0.0, gain_jitter=0.5), 5
    )
    position = corpus.spec.channels.index("POS")
    logs = []
    for index in range(40):
        a, b = plain.sample(index), jittered.sample(index)
        assert a["caption"] == b["caption"] and np.abs(b["signal"]).max() <= 6
        np.testing.assert_array_equal(a["signal"][position], b["signal"][position])
        unclipped = (np.abs(a["signal"]) < 1) & (np.abs(a["signal"]) > 0.1)
        unclipped[position] = False
        for channel in np.flatnonzero(unclipped.any(1)):
            if np.array_equal(a["signal"][channel], b["signal"][channel]):
                continue  # the text states a size of it
            here = unclipped[channel]
            ratio = b["signal"][channel][here] / a["signal"][channel][here]
            np.testing.assert_allclose(ratio[np.abs(ratio) < 5], ratio[0], rtol=1e-4)
            logs.append(np.log(ratio[0]))
        np.testing.assert_array_equal(b["signal"], jittered.sample(index)["signal"])
    assert len(logs) > 200 and np.std(logs) == pytest.approx(0.5, abs=0.06)


def test_a_pair_that_does_not_fit_keeps_its_first_kind_whole(corpus, tokenizer):
    data = DataConfig(pair_probability=1.0, channel_dropout=0.0, text_length=72)
    short, long = (
        Loader(corpus, "train", tokenizer, replace(data, text_length=n), 0) for n in (72, 200)
    )
    dropped = 0
    for index in range(60):
        a, b = short.sample(index), long.sample(index)
        fits = len(tokenizer.ids(b["caption"])) + 2 <= 72
        assert a["kinds"].sum() == (b["kinds"].sum() if fits else 1)
        assert b["caption"].startswith(a["caption"])
        assert (a["prefix"] >= 0).sum() == a["kinds"].sum()
        dropped += not fits
    assert 0 < dropped < 60 and long.cut_share(60) == 0


class Marked:
    """A source whose samples carry the artefact bits `bits` uint8 [C]."""

    def __init__(self, source, bits):
        self.source, self.bits = source, bits

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        return self.source[index] | {"artefact": self.bits}


def marked_loader(corpus, tokenizer, data, **marks):
    bits = np.zeros(len(SLEEPLM_CHANNELS), np.uint8)
    for channel, names in marks.items():
        bits[SLEEPLM_CHANNELS.index(channel.replace("_", "-"))] = artefact_bits(names)
    made = Loader(corpus, "train", tokenizer, data, seed=5)
    made._source = Marked(made._source, bits)
    return made, bits


def test_channels_with_masked_artefacts_are_no_input_and_nothing_is_said_of_them(
    corpus, tokenizer
):
    data = replace(DATA, channel_dropout=0.0, captions=CaptionMix(0, 1, 0, 0, 0))
    made, bits = marked_loader(
        corpus, tokenizer, data, C3=("lead_off",), C4=("movement", "mains"), ECG=("flat", "pop"),
    )
    c3, c4, ecg = (SLEEPLM_CHANNELS.index(name) for name in ("C3", "C4", "ECG"))
    seen = list(itertools.islice(made.eval_batches(16), 2)) + [made.batch(0, 16)]
    for batch in seen:
        assert not batch["channel_mask"][:, [c3, ecg]].any()
        assert not batch["signal"][:, [c3, ecg]].any()
        assert batch["channel_mask"][:, c4].any() and batch["signal"][:, c4].any()
        assert (batch["artefact"] == bits).all()
    for index in range(20):
        sample = made.sample(index)
        assert "C3" not in sample["caption"]
        heart = CAPTION_KINDS.index("heart")
        plain = Loader(corpus, "train", tokenizer, data, seed=5).sample(index)
        if plain["keys"][heart] and sample["index"] == plain["index"]:
            assert sample["keys"][heart] != plain["keys"][heart]  # said of the ECG before


def test_no_masked_artefacts_leave_the_samples_as_they_are(corpus, tokenizer, loader):
    made, bits = marked_loader(
        corpus, tokenizer, replace(DATA, mask_artefacts=()), C3=("lead_off",), ECG=("flat",),
    )
    plain, marked = loader.batch(2, 8), made.batch(2, 8)
    assert (marked.pop("artefact") == bits).all()
    equal({k: v for k, v in plain.items() if k != "artefact"}, marked)


def test_a_sample_never_loses_all_its_channels_to_artefacts(corpus, tokenizer, loader):
    made, _ = marked_loader(
        corpus, tokenizer, DATA,
        **{name.replace("-", "_"): ("dropout",) for name in SLEEPLM_CHANNELS},
    )
    batch = next(made.eval_batches(8))
    np.testing.assert_array_equal(
        batch["channel_mask"], next(loader.eval_batches(8))["channel_mask"]
    )


def test_the_style_decides_the_words_and_not_the_keys(corpus, tokenizer):
    plain, compact = (
        Loader(corpus, "train", tokenizer, replace(DATA, style=style), 3)
        for style in ("default", "sleeplm")
    )
    differ = 0
    for index in range(40):
        one, two = plain.sample(index), compact.sample(index)
        assert (one["keys"] == two["keys"]).all() and one["index"] == two["index"]
        kinds = [CAPTION_KINDS[kind] for kind in two["prefix"] if kind >= 0]
        assert {kind: parse(two["caption"])[kind] for kind in kinds} == {
            kind: stated(_record(corpus, two), kind, _spec(corpus, two)) for kind in kinds
        }
        differ += one["caption"] != two["caption"]
    assert differ > 35


def test_ungrounded_captions_state_what_the_input_does_not_show(corpus, tokenizer):
    mix = CaptionMix(stage_event=0, brain=0, respiratory=0, position_muscle=0, heart=1)
    data = replace(DATA, captions=mix, pair_probability=0.0)
    grounded = Loader(corpus, "train", tokenizer, data, 3)
    every = Loader(corpus, "train", tokenizer, replace(data, ungrounded=True), 3)
    said = [every.sample(index) for index in range(40)]
    assert sum("SpO2" in (parse(row["caption"])["heart"] or {})["channels"] for row in said) > 20
    for row in said:
        record = _record(corpus, row)
        assert (row["keys"] == caption_keys(record, None)).all()
        assert parse(row["caption"])["heart"] == stated(record, "heart", None)
    assert not any("SpO2" in parse(grounded.sample(i)["caption"])["heart"]["channels"]
                   for i in range(40))


@pytest.mark.parametrize("level", ["statistical", "semantic"])
def test_the_level_decides_what_is_said_and_its_keys(corpus, tokenizer, level):
    loader = Loader(corpus, "train", tokenizer, replace(DATA, level=level), 3)
    for index in range(20):
        row = loader.sample(index)
        record, spec = _record(corpus, row), _spec(corpus, row)
        assert (row["keys"] == caption_keys(record, spec, level)).all()
        kinds = [CAPTION_KINDS[kind] for kind in row["prefix"] if kind >= 0]
        assert {kind: parse(row["caption"])[kind] for kind in kinds} == {
            kind: stated(record, kind, spec, level) for kind in kinds
        }


def _record(corpus, row):
    return corpus.source("train")[int(row["index"])]["record"]


def _spec(corpus, row):
    """What a row's input shows."""
    shown = tuple(c for c, there in zip(corpus.spec.channels, row["channel_mask"]) if there)
    return replace(corpus.spec, channels=shown)
