"""Our torch module against our JAX model: random weights, float32, every setting of the family.

Tolerance: 1e-4 of the largest value. Both sum in float32 and in another order; what is measured is
about 1e-6.
"""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from sleeplm_jax.models.build import bind, graph_of
from sleeplm_jax.models.presets import preset
from tests.interop.shapes import family, inputs, weights

torch = pytest.importorskip("torch", reason="torch is not installed (extra torch)")
torch.set_num_threads(1)  # small tensors; other tests' threads may hold the cores

TOLERANCE = 1e-4
FAMILY = family()


def torch_twin(config, parameters):
    from sleeplm_jax.interop.modeling_sleeplm import SleepLM
    from sleeplm_jax.interop.names import to_torch

    with torch.device("meta"):
        model = SleepLM(as_json(config))
    state = {name: torch.tensor(x) if x.ndim < 2 else torch.from_numpy(x)
             for name, x in to_torch(parameters).items()}
    model.load_state_dict(state, strict=True, assign=True)
    return model.eval()


def as_json(config, vocab_size=300, bos=1, eos=2, unwritten=(0, 1)):
    return {
        "model": dataclasses.asdict(config.model),
        "objective": dataclasses.asdict(config.objective),
        "text_length": config.data.text_length, "prefix_length": 2,
        "caption_kinds": ["brain", "heart", "respiratory", "position_muscle", "stage_event"],
        "tokens": {"pad": 0, "bos": bos, "eos": eos, "unwritten": list(unwritten),
                   "vocab_size": vocab_size},
    }


def far(ours, theirs):
    theirs = theirs.detach() if hasattr(theirs, "detach") else theirs
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape
    return np.abs(ours - theirs).max() / max(np.abs(ours).max(), 1e-6)


@functools.cache
def jitted(name):
    """The family's member, its parameters, and all that it says of them and a batch (one compile
    for all tests)."""
    return compiled(FAMILY[name])


def compiled(config):
    graph = graph_of(config)

    @jax.jit
    def run(parameters, batch):
        model = bind(graph, parameters)
        out = model(batch)
        if "caption_hidden" in out:
            out["logits"] = model.logits(out["caption_hidden"])
        return out | model.encode_signal(batch["signal"], batch["channel_mask"])

    return config, weights(config), run


@pytest.mark.parametrize("name", FAMILY)
def test_all_outputs_agree(name):
    outputs_agree(*jitted(name))


def outputs_agree(config, parameters, run, size=3):
    batch = inputs(config, size)
    ours = run(parameters, batch)
    twin = torch_twin(config, parameters)
    with torch.no_grad():
        hidden = batch.get("hidden_patches")
        theirs = twin(batch["signal"], batch["channel_mask"], batch["text"], batch["prefix"],
                      None if hidden is None else torch.tensor(hidden))
        theirs |= twin.encode_signal(batch["signal"], batch["channel_mask"])
    compared = set(ours) & set(theirs)
    gives = {"contrastive": ["embedding", "signal_embedding", "text_embedding"],
             "caption": ["logits", "caption_tokens"]}
    for objective, keys in gives.items():
        assert not getattr(config.objective, objective) or compared >= {"features", *keys}
    if config.objective.reconstruction:
        assert compared & {"reconstruction", "patches"}
    assert not config.objective.position_classes or "position_logits" in compared
    for key in compared:
        assert far(ours[key], theirs[key]) < TOLERANCE, key


def greedy(config, parameters, run, batch, kind, words=300):
    """Greedy ids by whole passes over the text so far, and the least gap of the two best logits."""
    text = np.zeros((len(batch["signal"]), config.data.text_length), np.int32)
    text[:, 0] = 1
    prefix = np.full((len(text), 2), -1, np.int32)
    prefix[:, 0] = kind
    done, gaps = np.zeros(len(text), bool), []
    for place in range(text.shape[1] - 1):
        said = run(parameters, batch | {"text": text, "prefix": prefix})["logits"]
        row = np.array(said[:, place])
        row[:, [0, 1]] = row[:, words:] = -np.inf
        best = row.argmax(-1)
        two = np.sort(row, -1)[:, -2:]
        gaps.append(np.where(done, np.inf, (two[:, 1] - two[:, 0]) / np.abs(two).max()))
        text[:, place + 1] = np.where(done, 0, best)
        done |= best == 2
        if done.all():
            break
    return text, np.array(gaps).min(0)


@pytest.mark.parametrize("name", [n for n, c in FAMILY.items() if c.objective.caption])
def test_greedy_captions_agree(name):
    """Token for token, but for rows where the two best logits nearly tie."""
    captions_agree(*jitted(name))


def captions_agree(config, parameters, run, size=3):
    batch = inputs(config, size, seed=1)
    ours, gaps = greedy(config, parameters, run, batch, kind=2)
    twin = torch_twin(config, parameters)
    theirs = twin.generate(batch["signal"], batch["channel_mask"], "respiratory").numpy()
    sure = gaps > 10 * TOLERANCE
    assert sure.any()  # else the test compares nothing
    np.testing.assert_array_equal(ours[sure], theirs[sure])


@pytest.mark.slow
def test_the_base_model_agrees():
    """385 M parameters and the reconstruction head; 8 tokens of its 256 keep this to minutes."""
    config = preset("sleeplm-base")
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, text_length=8))
    member = compiled(config)
    torch.set_num_threads(2)
    outputs_agree(*member, size=2)
    captions_agree(*member, size=2)


def test_captions_stop_at_their_end():
    """Eos ends a row, padding follows; none before `min_tokens`."""
    config = FAMILY["vit2d"]
    parameters, batch = weights(config), inputs(config, batch=4)
    twin = torch_twin(config, parameters)
    with torch.no_grad():
        twin.decoder.logits.weight[2] += 3 * twin.decoder.norm.bias  # eos is likely now
        twin.decoder.norm.bias *= 3
    rows = twin.generate(batch["signal"], batch["channel_mask"], max_tokens=12).numpy()
    ends = [list(row).index(2) for row in rows if 2 in row]
    assert ends and rows.shape == (4, 12)
    for row in rows:
        if 2 in row:
            assert not row[list(row).index(2) + 1 :].any()
    later = twin.generate(batch["signal"], batch["channel_mask"], max_tokens=12, min_tokens=9)
    assert 2 not in later[:, :9]


def test_a_sample_without_any_channel_gives_numbers():
    config = FAMILY["vit2d"]
    twin = torch_twin(config, weights(config))
    batch = inputs(config)
    with torch.no_grad():
        out = twin.encode_signal(batch["signal"], np.zeros_like(batch["channel_mask"]))
    assert all(torch.isfinite(x).all() for x in out.values())
