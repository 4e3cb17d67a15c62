"""Commands about what models are made of: show, list. Nothing is allocated."""

from __future__ import annotations

from pathlib import Path

import tyro

from sleeplm_jax.cli.saying import console, say
from sleeplm_jax.errors import UserError

# What a preset without a vocabulary of its own is counted with: a usual corpus' tokenizer.
VOCABULARY = 2048


def model_show(which: tyro.conf.Positional[str], vocabulary: int = VOCABULARY,
               arrays: bool = False) -> int:
    """Show a model's modules, parameters, FLOPs and memory, without allocating it.

    Args:
        which: A preset (`sleeplm model list`) or an experiment file.
        vocabulary: Tokens to count with where the config leaves them to the tokenizer.
        arrays: Every array and its shape too.
    """
    from sleeplm_jax.config.files import load_experiment
    from sleeplm_jax.config.validation import validate
    from sleeplm_jax.models.build import with_vocabulary
    from sleeplm_jax.models.presets import preset
    from sleeplm_jax.models.summary import activation_bytes, modules
    from sleeplm_jax.reports.models import facts, parts

    if vocabulary < 1:
        raise UserError("--vocabulary", f"is {vocabulary}", "give a positive number of tokens")
    is_file = which.endswith(".py") or Path(which).exists()
    config = validate(load_experiment(which) if is_file else preset(which))
    config = with_vocabulary(config, config.model.vocab_size or vocabulary)
    found = modules(config)
    console().print(parts(config, found, arrays))
    for line in facts(config, found, activation_bytes(config)):
        say(line)
    return 0


def model_list() -> int:
    """List the presets with their exact counts (at 2,048 tokens where the corpus decides)."""
    from sleeplm_jax.models.build import with_vocabulary
    from sleeplm_jax.models.flops import forward
    from sleeplm_jax.models.presets import PRESETS, preset
    from sleeplm_jax.models.summary import parameters_of
    from sleeplm_jax.reports.models import listed

    rows = []
    for name in PRESETS:
        config = preset(name)
        config = with_vocabulary(config, config.model.vocab_size or VOCABULARY)
        work = sum(part.total for part in forward(config).values())
        rows.append((name, config, parameters_of(config), work / 1e9))
    console().print(listed(rows))
    return 0
