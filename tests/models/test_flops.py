"""FLOPs, parameters and memory are told from the config as the traced model has them."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import pytest

from sleeplm_jax.config import ObjectiveConfig
from sleeplm_jax.models.build import bind, create, graph_of, with_vocabulary
from sleeplm_jax.models.flops import forward, training
from sleeplm_jax.models.presets import preset
from sleeplm_jax.models.summary import abstract_batch, activation_bytes, modules
from tests.models.test_recoca import SMALL


def counted(jaxpr) -> int:
    """FLOPs of every matrix product of a jaxpr, a scan's body as often as it runs."""
    total = 0
    for equation in jaxpr.eqns:
        name, parameters = equation.primitive.name, equation.params
        if name == "dot_general":
            (contracted, _), _ = parameters["dimension_numbers"]
            inner = math.prod(equation.invars[0].aval.shape[i] for i in contracted)
            total += 2 * inner * math.prod(equation.outvars[0].aval.shape)
        elif name == "scan":
            total += parameters["length"] * counted(parameters["jaxpr"].jaxpr)
        else:
            for inner in parameters.values():
                if hasattr(inner, "eqns") or hasattr(inner, "jaxpr"):
                    total += counted(getattr(inner, "jaxpr", inner))
    return total


def of_the_trace(config) -> int:
    """FLOPs of one sample's forward pass in the model's own trace, nothing allocated."""
    config = replaced(config, attention="reference")
    graph = graph_of(config)

    def run(parameters, batch):
        model = bind(graph, parameters)
        out = model(batch)
        if "caption_hidden" in out:  # the loss makes the logits
            out["scores"] = model.logits(out["caption_hidden"])
        return out

    shapes = jax.eval_shape(lambda: create(config)[1])
    closed = jax.make_jaxpr(run)(shapes, abstract_batch(config, 1))
    return counted(closed.jaxpr)


def replaced(config, **model):
    return dataclasses.replace(config, model=dataclasses.replace(config.model, **model))


def masked(config):
    return dataclasses.replace(config, objective=ObjectiveConfig(
        contrastive=0, caption=0, reconstruction=1, reconstruction_form="masked",
        position_classes=True,
    ))


@pytest.mark.parametrize(
    "config",
    [
        preset("sleeplm-base"),
        preset("sensorlm-siglip-b"),
        with_vocabulary(preset("sensorlm-s"), 2048),
        with_vocabulary(preset("sleeplm-1m"), 2048),
        masked(SMALL),
    ],
    ids=["sleeplm-base", "sensorlm-siglip-b", "sensorlm-s", "sleeplm-1m", "masked"],
)
def test_flops_from_the_config_equal_those_of_the_trace(config):
    assert sum(work.total for work in forward(config).values()) == of_the_trace(config)


def of_the_gradient(config) -> int:
    """FLOPs of one sample's gradient in the trace: forward, backward, and what is done again."""
    config = replaced(config, attention="reference")
    graph = graph_of(config)

    def loss(parameters, batch):
        model = bind(graph, parameters)
        out = model(batch)
        out["scores"] = model.logits(out["caption_hidden"])
        return sum(jnp.square(x).sum() for n, x in out.items() if n != "logits_kernel")

    shapes = jax.eval_shape(lambda: create(config)[1])
    return counted(jax.make_jaxpr(jax.grad(loss))(shapes, abstract_batch(config, 1)).jaxpr)


def test_training_costs_three_forward_passes_and_what_is_computed_again():
    config = with_vocabulary(preset("sleeplm-1m"), 2048)
    plain, full = (of_the_gradient(replaced(config, remat=kind)) for kind in ("none", "full"))
    model, same = training(config)
    # Gradients of the signal itself and of embedded tokens are nobody's: 1 % less is seen.
    assert model == same and 0.97 < plain / model <= 1
    model_again, computed = training(replaced(config, remat="full"))
    assert model_again == model
    # Of a block that is computed again, the last product (and what nobody needs) is left out.
    assert 0.6 < (full - plain) / (computed - model) <= 1
    assert training(replaced(config, remat="dots")) == (model, model)


def test_micro_batches_run_the_encoders_once_more_where_samples_are_compared():
    config = dataclasses.replace(SMALL, micro_batches=2)
    model, computed = training(config)
    work = forward(config)
    encoders = sum(part.total for name, part in work.items()
                   if not name.startswith(("decoder", "reconstruction", "encoder/caption_pool")))
    assert computed - model == encoders > 0
    alone = dataclasses.replace(config, objective=ObjectiveConfig(contrastive=0))
    assert len(set(training(alone))) == 1


def test_sleeplm_base_costs_what_was_measured_of_the_official_code():
    """118 + 44 + 101 GFLOP by torch's counter, which saw attention's products only in the signal
    encoder (torch's fused attention of the text modules is none of its operations)."""
    work = forward(preset("sleeplm-base"))

    def giga(prefix, part):
        return sum(getattr(w, part) for n, w in work.items() if n.startswith(prefix)) / 1e9

    assert round(giga("encoder", "total") + giga("signal_projection", "total")) == 118
    assert round(giga("text", "linear")) == 44
    assert round(giga("decoder", "linear") + giga("reconstruction", "linear")) == 101


def test_modules_hold_every_parameter_once():
    config = with_vocabulary(preset("sleeplm-1m"), 2048)
    shapes = jax.tree.leaves(jax.eval_shape(lambda: create(config)[1]))
    found = modules(config)
    assert sum(module.parameters for module in found) == sum(x.size for x in shapes)
    assert sum(len(module.arrays) for module in found) == len(shapes)
    told = {module.path for module in found if module.work}
    assert told == set(forward(config))  # no work of a module that is not there


@pytest.mark.slow
def test_kept_activations_shrink_with_rematerialisation_and_narrow_types():
    kept = {remat: activation_bytes(replaced(SMALL, remat=remat)) for remat in
            ("none", "dots", "full")}
    assert kept["none"] > kept["dots"] > kept["full"] > 0
    half = activation_bytes(replaced(SMALL, compute_dtype="bfloat16"))
    assert 0.4 < half / kept["none"] < 0.9  # norms and softmax stay float32


def test_kept_activations_are_what_xla_makes_room_for():
    """The compiled gradient's scratch space. XLA fuses, reuses and needs room of its own: a factor
    of two either way is agreement here (48 samples, so that little else counts)."""
    config = dataclasses.replace(SMALL, objective=ObjectiveConfig(caption=0, reconstruction=0))
    graph = graph_of(config)
    shapes = jax.eval_shape(lambda: create(config)[1])

    def gradient(parameters, batch):
        def loss(p):
            out = bind(graph, p)(batch)
            return jnp.square(out["signal_embedding"] - out["text_embedding"]).sum()

        return jax.grad(loss)(parameters)

    compiled = jax.jit(gradient).lower(shapes, abstract_batch(config, 48)).compile()
    scratch = compiled.memory_analysis().temp_size_in_bytes
    assert 0.5 < scratch / 48 / activation_bytes(config) < 2
