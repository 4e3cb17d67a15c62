"""The `sleeplm` command: thin and lazy. Nothing here starts a JAX backend before it is needed."""

from __future__ import annotations

import os
import sys

import tyro

from sleeplm_jax.cli.captioning import caption
from sleeplm_jax.cli.captions_check import captions_check
from sleeplm_jax.cli.captions_show import captions_rewrite, captions_show
from sleeplm_jax.cli.corpora import corpus_check, prepare, quality, tokenizer
from sleeplm_jax.cli.dryrun import dryrun, dryrun_with
from sleeplm_jax.cli.exchange import export, import_run
from sleeplm_jax.cli.model_show import model_list, model_show
from sleeplm_jax.cli.models import describe, evaluate, train, train_with
from sleeplm_jax.cli.montages import montage_check, montage_list, montage_report
from sleeplm_jax.cli.recordings import fetch, inspect, simulate
from sleeplm_jax.cli.runs import runs, runs_compare
from sleeplm_jax.cli.scaling import (
    scaling_fit,
    scaling_measure,
    scaling_plan,
    scaling_report,
    scaling_run,
)
from sleeplm_jax.errors import Interrupted, UserError, as_user_error

COMMANDS = (simulate, fetch, inspect, prepare, quality, tokenizer, train, dryrun, runs, evaluate,
            describe, caption, export)
# `sleeplm NAME COMMAND`: what is said of NAME, and its commands.
GROUPS = {
    "captions": (
        "Show one epoch's captions with its signals, check a corpus' captions against its "
        "measurements, or let a language model reword them.",
        {"show": captions_show, "check": captions_check, "rewrite": captions_rewrite},
    ),
    "corpus": ("Check a corpus that `prepare` wrote.", {"check": corpus_check}),
    "model": (
        "Show what a model is made of and what it costs, without allocating it.",
        {"show": model_show, "list": model_list},
    ),
    "montage": (
        "Check montages: which label is which channel, and how far they reach in a cohort.",
        {"report": montage_report, "check": montage_check, "list": montage_list},
    ),
    "scaling": (
        "Plan a scaling study, run its cells, fit its laws and draw its report.",
        {"plan": scaling_plan, "run": scaling_run, "measure": scaling_measure, "fit": scaling_fit,
         "report": scaling_report},
    ),
}


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit status (2 for a user's mistake, said in one line)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    # Loaded libraries log start-up trivia through absl and TensorFlow's names; users asked none.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    for stream in (sys.stdout, sys.stderr):  # an old locale must not turn µ into a failure
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        if arguments[:1] == ["train"] and len(arguments) > 1 and arguments[1][:1] != "-":
            return train_with(arguments[1:])
        if arguments[:1] == ["dryrun"]:
            return dryrun_with(arguments[1:])
        if arguments[:2] == ["runs", "compare"]:  # beside `runs FOLDER`, as tyro has no default
            return tyro.cli(runs_compare, args=arguments[2:], prog="sleeplm runs compare")
        app = tyro.extras.SubcommandApp()
        for command in COMMANDS:
            app.command(command)
        app.command(import_run, name="import")
        for name, (about, commands) in GROUPS.items():
            group = tyro.extras.SubcommandApp()
            for word, command in commands.items():
                group.command(command, name=word)
            app.command(group, name=name, help=about)
        return app.cli(
            args=arguments, prog="sleeplm",
            description="Pretraining and use of sleep-language models. Research software: "
            "it makes no diagnosis.",
        )
    except UserError as error:
        print(f"sleeplm: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("sleeplm: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except Interrupted as error:  # training saved its state before this
        return error.status
    except BrokenPipeError:  # `sleeplm inspect ... | head`: the reader has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (OSError, MemoryError) as error:
        print(f"sleeplm: {as_user_error(error)}", file=sys.stderr)
        return 2
