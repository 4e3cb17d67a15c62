"""The benchmark of number tokens: what it grades, how its cuts differ, and its decoder."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from sleeplm_jax.captions.parse import parse
from sleeplm_jax.captions.render import render
from sleeplm_jax.config import SignalSpec

PATH = Path(__file__).parents[2] / "experiments/benchmarks/number_tokens.py"


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("number_tokens", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look their module up
    sys.path.insert(0, str(PATH.parent))
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(PATH.parent))
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def spec(bench):
    return SignalSpec(channels=bench.CHANNELS)


@pytest.fixture(scope="module")
def epochs(bench, corpus, spec):
    return bench.load(corpus, ("val", "test"), spec)


def test_what_a_caption_states_comes_back_as_the_same_numbers(bench, epochs, spec):
    rng = np.random.default_rng(0)
    for kind in bench.KINDS:
        for index in epochs.of(kind)[::7]:
            text = render(epochs.records[index], kind, rng, spec=spec)
            assert bench.slots(parse(text)[kind], kind) == epochs.stated[index][kind]
            assert any(isinstance(v, float) for v in epochs.stated[index][kind].values())


def test_marks_count_exact_lost_far_and_invented_numbers(bench, epochs):
    reader = bench.Reader(epochs)
    sound = bench.grade(reader, epochs, bench.pick(epochs, 10), lambda kind, indices: [
        epochs.stated[i][kind] for i in indices])
    assert sound["all"]["exact"] == sound["all"]["parsed"] == sound["whole"] == 1
    assert sound["all"]["far"] == sound["all"]["invented"] == sound["all"]["mean"] == 0
    rate = ("heart", "heart_rate_mean", "heart", 0, "value")
    index = next(i for i in epochs.of("heart") if rate in epochs.stated[i]["heart"])
    true = {rate: epochs.stated[index]["heart"][rate]}
    few = bench.Epochs([epochs.records[index]], [{"heart": true}])
    for said, exact, parsed, far in ((0, 1, 1, 0), (1000, 0, 1, 1), (None, 0, 0, 1)):
        text = "nothing" if said is None else f"Heart rate: mean {true[rate] + said:g} bpm."
        found = bench.grade(reader, few, {"heart": [0]}, lambda *_, text=text: [text])["all"]
        assert (found["exact"], found["parsed"], found["far"]) == (exact, parsed, far)
        assert found["mean"] == (None if said is None else pytest.approx(
            said / reader.spread[rate]))
    found = bench.grade(reader, few, {"heart": [0]}, lambda *_: ["Heart rate: RMSSD at 12 ms."])
    assert found["all"]["invented"] == 1 and found["all"]["parsed"] == 0


def test_the_floor_is_between_the_readings_error_and_none(bench, epochs):
    """0.1 sd of blur: mean error about 0.08 sd, less where rounding is coarser than the blur."""
    reader = bench.Reader(epochs)
    values, present = reader.read(epochs, 0)
    chosen = bench.pick(epochs, 30)
    found = bench.grade(reader, epochs, chosen, lambda kind, indices: [
        reader.floor(epochs, values, i, kind) for i in indices])["all"]
    assert 0.01 < found["mean"] < 0.12 and found["far"] < 0.02 and 0.2 < found["exact"] < 1
    numbers = [j for j, slot in enumerate(reader.slots) if slot not in reader.words]
    assert np.std(values[:, numbers][present[:, numbers]]) == pytest.approx(1, abs=0.15)


def test_cuts_differ_in_where_numbers_end(bench, corpus, epochs, spec):
    """The three nights of 30 minutes say 2-digit numbers often enough to merge most of them."""
    texts = bench.lesson(bench.Size(), epochs, spec, 3, 0).texts
    share = {}
    for cut in ("whole", "apart", "digits"):
        tokenizer = bench.tokenizer_of(corpus, cut, 1024)
        ids = [tokenizer.ids(text) for batch in texts for text in batch]
        assert [tokenizer.decode(one) for one in ids] == [t for batch in texts for t in batch]
        pieces = [tokenizer.decode([i]).strip() for one in ids for i in one]
        every = [piece for piece in pieces if any(c.isdigit() for c in piece)]
        share[cut] = {
            "long": np.mean([sum(c.isdigit() for c in p) > 1 for p in every]),
            "signed": np.mean([p[-1] in "%," for p in every]),
        }
    assert share["digits"] == {"long": 0, "signed": 0}
    assert share["apart"]["signed"] == 0 < share["apart"]["long"]
    assert share["whole"]["signed"] > 0.1 and share["whole"]["long"] > 0.3


@pytest.mark.slow
def test_the_writer_with_its_cache_says_what_the_whole_pass_finds_likeliest(bench, corpus, spec,
                                                                            monkeypatch):
    """And one small run to its end: a cell of each cut gives a table."""
    import jax.numpy as jnp
    import number_tokens_decoder as decoder

    monkeypatch.setattr(bench, "KINDS", ("heart",))  # one shape, one compilation
    epochs = bench.load(corpus, ("val", "test"), spec)
    size = bench.Size(width=16, layers=2, heads=2, batch=8, vocab=1024)
    tokenizer, reader = bench.tokenizer_of(corpus, "digits", 1024), bench.Reader(epochs)
    plan = bench.lesson(size, epochs, spec, 6, 0)
    assert [len(set(batch)) for batch in plan.epochs] == [8] * 6
    vocabulary = bench.Vocabulary(tokenizer, plan.texts, plan.kinds)
    assert [vocabulary.text(row) for row in vocabulary.rows(plan.texts[0], "heart")] == \
        plan.texts[0]
    read = reader.read(epochs, 0)
    params, about = bench.train(size, vocabulary, reader, read, plan, 0)
    assert about["tokens_per_caption"] == pytest.approx(
        np.mean([len(tokenizer.ids(t)) + 2 for texts in plan.texts for t in texts]))

    values, present = (np.resize(x, (128, x.shape[1])) for x in read)
    length = vocabulary.rooms["heart"]
    wrote = np.asarray(decoder.writer(2, length)(params, 0, values, present))[:3]
    values, present = values[:3], present[:3]
    text = np.concatenate([np.full((3, 1), decoder.BOS), wrote[:, :-1]], 1)
    x = params["token"][text] + params["place"][:length] + params["kind"][0]
    causal = jnp.tril(jnp.ones((length, length), bool))[None, None]
    memory = decoder.memories(params, 2, values, present)
    hidden = decoder.decode(params, 2, memory, present, x, causal, lambda i, k, v: (k, v))
    logits = np.asarray(hidden @ params["head"])
    # The same sums in another order: of two equal logits either may win.
    assert np.all(np.take_along_axis(logits, wrote[..., None], -1)[..., 0] > logits.max(-1) - 1e-3)

    cell = bench.run(size, tokenizer, reader, epochs, epochs, plan, 0, 8)
    assert {"model", "floor", "median"} < set(cell)
    table = bench.tables({"whole-6-0": cell, "digits-6-0": cell})
    assert "| 6 | digits | 1 | +0.0" in table and "heart_rate_mean" in table
