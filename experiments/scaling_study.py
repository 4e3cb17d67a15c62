"""A small scaling study on two CPU cores: what model size, hours of sleep and passes over them buy.

    python experiments/scaling_study.py --work scaling_study

simulates 50 nights of 4 h (40 people to train on, 2 for held-out losses, 8 to measure on), prepares
them, trains and measures every cell, fits, and draws the report in WORK/study. The same command
goes on where it was stopped, on another day too; `--minutes 30` begins no cell after half an hour,
and several of these commands share the work. Its last two parts, from a ledger of rows alone:

    sleeplm scaling fit docs/scaling_study
    sleeplm scaling report docs/scaling_study

The model is a CoCa on the five channels of the ablations, without their reconstruction, whose
output layer would be most of a small model's parameters. All nights are SIMULATED. It shows how
losses of models of 0.03 to 2.6 M parameters move within minutes of training, and that the road
works; nothing follows from it for models of a hundred million.

Hardware: 2 CPU cores, 4 GB of memory for two cells at a time. Time: 49 CPU-minutes for the 41
cells, 6 for the nights; 36 minutes by the clock with two of these commands side by side. Its
ledger, fit and pictures: docs/scaling_study; what they say: docs/scaling.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sleeplm_jax.config import (
    CaptionMix,
    DataConfig,
    EncoderConfig,
    ModelConfig,
    ObjectiveConfig,
    OptimizerConfig,
    RunConfig,
    SignalSpec,
    TextConfig,
)
from sleeplm_jax.errors import UserError
from sleeplm_jax.scaling.study import Grid, Measure, PowerRule, Size, Speed, Study

CHANNELS = ("ECG", "AF", "EOG-L", "C3", "EMG")
HOURS, SEED, SPLITS, VOCABULARY = 4.0, 91, {"train": 40, "val": 2, "test": 8}, 1024


def get_config() -> RunConfig:
    return RunConfig(
        name="scaling",
        data=DataConfig(
            corpus="scaling_study/corpus",
            text_length=56,  # the longest kind: 40 tokens in the mean, 52 at the 99th percentile
            captions=CaptionMix(
                stage_event=0.4, brain=0.15, heart=0.15, respiratory=0.15, position_muscle=0.15
            ),
            pair_probability=0.0,
            channel_dropout=0.1,
        ),
        model=ModelConfig(
            spec=SignalSpec(channels=CHANNELS),
            encoder=EncoderConfig(  # with the text's, the size w80
                width=80, depth=2, heads=5, mlp_ratio=2.0, patch_samples=192, stem_width=80,
                pool="cascade", caption_tokens=8,
            ),
            text=TextConfig(width=64, depth=1, decoder_depth=1, heads=4, mlp_ratio=2.0),
            embed_dim=64,
        ),
        objective=ObjectiveConfig(contrastive=1.0, caption=2.0, reconstruction=0.0),
        optimizer=OptimizerConfig(kind="muon", learning_rate=4e-3),
        log_every=20,
        eval_samples=256,
        keep_checkpoints=1,
        tensorboard=False,
    )


def size(name: str, width: int, depth: int, heads: int, text: int, text_depth: int) -> Size:
    """Encoder and text modules grow together; a head is 12 to 24 wide."""
    return Size(name, {
        "model.encoder.width": width, "model.encoder.depth": depth, "model.encoder.heads": heads,
        "model.encoder.stem_width": width, "model.text.width": text,
        "model.text.depth": text_depth, "model.text.decoder_depth": text_depth,
        "model.text.heads": text // 16,
    })


def get_study() -> Study:
    return Study(
        name="small",
        experiment="scaling_study.py",
        sizes=(
            size("w16", 16, 1, 1, 16, 1),
            size("w24", 24, 1, 2, 24, 1),
            size("w32", 32, 1, 2, 32, 1),
            size("w48", 48, 2, 3, 48, 1),
            size("w80", 80, 2, 5, 64, 1),
            size("w128", 128, 3, 8, 96, 2),
            size("w192", 192, 4, 12, 128, 2),
        ),
        grids=(
            # Curves of equal compute, over all the sleep there is.
            Grid(budgets=(2.5e11,), sizes=("w16", "w24", "w32", "w48", "w80")),
            Grid(budgets=(5e11,), sizes=("w16", "w24", "w32")),
            Grid(budgets=(5e11,), sizes=("w48", "w80", "w128"), seeds=(0, 1, 2)),
            Grid(budgets=(1e12,), sizes=("w16", "w24", "w32", "w48", "w80", "w128")),
            Grid(budgets=(2e12,), sizes=("w24", "w32", "w48", "w80", "w128", "w192")),
            # Sizes and data scales (hours of sleep; 0: all), less of it seen more often.
            Grid(budgets=(5e11,), sizes=("w32", "w48", "w80", "w128"),
                 unique_hours=(8, 24, 64, 0)),
        ),
        learning_rate=PowerRule(3e-3, exponent=-0.125, at=1e12),
        batch_size=PowerRule(32),
        measure=Measure(split="test", samples=1024, batch_size=64),
        min_steps=40,
        max_passes=30,
        # CPU-seconds, by least squares over the cells; two at a time take half of it by the clock.
        speed=Speed(flops_per_s=30e9, sample_s=1e-3, cell_s=27),
        vocabulary=VOCABULARY,
        hours=HOURS * SPLITS["train"],
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("scaling_study"))
    parser.add_argument("--minutes", type=float, help="begin no cell after so many")
    args = parser.parse_args()
    from reference.simulated import Nights, make_corpus, sleeplm

    try:
        study = args.work / "study"
        corpus = make_corpus(args.work, Nights(SPLITS, HOURS, SEED, CHANNELS, VOCABULARY))
    except UserError as error:  # another of these commands is making it
        print(f"scaling_study: {error}", file=sys.stderr)
        return 2
    minutes = [] if args.minutes is None else ["--minutes", args.minutes]
    sleeplm("scaling", "run", Path(__file__), "--out", study, "--corpus", corpus, *minutes,
            may=(0, 1))  # 1: some cells failed; the others are worth a report
    sleeplm("scaling", "fit", study)
    sleeplm("scaling", "report", study)
    return 0


if __name__ == "__main__":
    sys.exit(main())
