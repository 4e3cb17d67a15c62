import numpy as np
import pytest

from sleeplm_jax.config import SignalSpec
from sleeplm_jax.evaluation.captions import caption_loss, encode, generated, total, unigram_nll
from tests.fake_model import FakeModel, FakeTokenizer, tone


def test_unigram_by_hand():
    train = np.array([[1, 5, 5, 6, 2, 0]])  # targets 5 5 6 2
    test = np.array([[1, 5, 7, 2, 0, 0]])  # targets 5 7 2
    nll, tokens = unigram_nll(train, test, vocab_size=8)
    # add-one over the six tokens that can be a target: counts 5:3 6:2 2:2 and 3, 4, 7: 1 each
    assert tokens == 3
    assert nll == pytest.approx(-np.log(3 / 10) - np.log(1 / 10) - np.log(2 / 10))


def test_loss_counts_every_token_once_beside_its_baselines():
    model, stages = FakeModel(), np.array([0, 3, 3, 1])
    text = encode(FakeTokenizer(), ["ab", "abcd", "a", "abc"], 12)
    train = encode(FakeTokenizer(), ["abc", "ab"], 12)
    mask = np.ones((4, 10), bool)
    found = caption_loss(model, tone(stages), mask, text, 2, train, 300)
    tokens = np.array([3, 5, 2, 4])  # eos counts
    assert found["tokens"] == 14
    assert found["loss"] == pytest.approx((tokens * (1 + stages)).sum() / 14)
    assert found["perplexity"] == pytest.approx(np.exp(found["loss"]))
    other = stages[[2, 3, 0, 1]]
    assert found["other_signal"]["loss"] == pytest.approx((tokens * (1 + other)).sum() / 14)
    assert found["unigram"]["tokens"] == 14 and found["unigram"]["loss"] < np.log(300)


def test_total_weights_by_tokens_and_skips_empty_kinds():
    kinds = {
        "brain": {"n": 2, "tokens": 10, "loss": 1.0, "unigram": {"tokens": 10, "loss": 2.0}},
        "heart": {"n": 1, "tokens": 30, "loss": 3.0, "unigram": {"tokens": 30, "loss": 4.0}},
        "respiratory": {"n": 0, "tokens": 0},
    }
    found = total(kinds)
    assert found["loss"] == pytest.approx(2.5) and found["tokens"] == 40 and found["n"] == 3
    assert found["unigram"]["loss"] == pytest.approx(3.5) and "other_signal" not in found


def breathing(rate):
    measured = {"feature": "respiratory_rate", "value": float(rate), "unit": "/min",
                "channel": "AF", "interval": [0.0, 30.0]}  # fmt: skip
    return {"stage": None, "events": [], "measurements": [measured], "missing": [], "scored": [],
            "stand_ins": []}  # fmt: skip


def test_generated_numbers_are_graded_as_numbers_beside_another_epochs():
    class Speaker(FakeModel):
        def caption(self, signal, channel_mask, kind):
            assert kind == "respiratory"
            return ["Airflow: 13 breaths/min.", "Airflow: 15 breaths/min.", "Airflow.", "Hum."]

    records = [breathing(rate) for rate in (12, 15, 18, 20)]
    texts = [f"Airflow: {rate} breaths/min." for rate in (12, 15, 18, 20)]
    mask = np.ones((4, 10), bool)
    found = generated(
        Speaker(), np.zeros((4, 10, 1920), np.float32), mask, records, texts, "respiratory",
        SignalSpec(),
    )
    rate = found["features"]["respiratory_rate"]
    assert (rate["n"], rate["stated"], rate["mae"]) == (4, 0.5, 0.5)
    assert found["unread"] == 0.5
    other = found["other_epoch"]["features"]["respiratory_rate"]
    assert other["stated"] == 1 and other["mae"] == np.mean([6, 5, 6, 5])  # half way round
