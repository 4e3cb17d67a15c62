"""The base of the ablations, and what each variant changes in it.

    python experiments/ablations/run.py --work ablations

makes the corpus, then trains and measures every variant that the ledger does not hold yet.
`sleeplm train experiments/ablations/recipe.py --data.corpus CORPUS` trains the base alone.

Hardware: 2 CPU cores, at most 4 minutes a variant and seed. It is small on purpose: it shows what a
setting does to a model of 1.4 M parameters in its first 9,600 samples, and nothing about larger
ones. docs/ablations.md holds the outcome.
"""

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

# One channel of each kind: half the tokens and half the words of the ten.
CHANNELS = ("ECG", "AF", "EOG-L", "C3", "EMG")
# How nights are simulated and who is measured: the same people for every variant and seed.
HOURS, SEED = 3.0, 77
SPLITS = {"train": 14, "val": 2, "test": 8}
VOCABULARY = 1024
# Fields that decide where a run goes and what is written of it, not what comes out.
NO_RESULT = ("name", "out", "log_every", "tensorboard", "keep_checkpoints", "data.corpus",
             "data.workers", "data.prefetch")


def get_config() -> RunConfig:
    return RunConfig(
        name="ablation",
        steps=150,
        data=DataConfig(
            batch_size=64,
            text_length=56,  # the longest kind: 40 tokens in the mean, 52 at the 99th percentile
            captions=CaptionMix(
                stage_event=0.4, brain=0.15, heart=0.15, respiratory=0.15, position_muscle=0.15
            ),
            pair_probability=0.0,
            channel_dropout=0.1,
        ),
        model=ModelConfig(
            spec=SignalSpec(channels=CHANNELS),
            encoder=EncoderConfig(
                width=96, depth=2, heads=4, mlp_ratio=2.0, patch_samples=192, stem_width=192,
                pool="cascade", caption_tokens=8,
            ),
            text=TextConfig(width=64, depth=2, decoder_depth=1, heads=4, mlp_ratio=2.0),
            embed_dim=64,
            reconstruction_width=48,
        ),
        objective=ObjectiveConfig(contrastive=1.0, caption=2.0, reconstruction=0.5),
        optimizer=OptimizerConfig(kind="muon", learning_rate=4e-3, warmup_steps=15),
        log_every=20,
        eval_every=150,
        eval_samples=256,
        checkpoint_every=75,
        keep_checkpoints=1,
        tensorboard=False,
    )


def sweep() -> dict[str, dict[str, object]]:
    """`{variant: {field: value}}`, in the order in which they are run; `base` changes nothing.

    Fields are dotted paths of a RunConfig, as on the command line of `sleeplm train`.
    """
    kinds = ("stage_event", "brain", "heart", "respiratory", "position_muscle")
    stage = {f"data.captions.{kind}": float(kind == "stage_event") for kind in kinds}
    return {
        "base": {},
        "no contrastive": {"objective.contrastive": 0.0},
        "no caption": {"objective.caption": 0.0},
        "no reconstruction": {"objective.reconstruction": 0.0},
        "equal captions as negatives": {"objective.equal_captions": False},
        # A layer over channels and one over time, twice, in place of two over all tokens.
        "dual_axis": {"model.encoder.kind": "dual_axis"},
        "stage captions only": stage,
        "pairs of kinds": {"data.pair_probability": 0.5, "data.text_length": 80},
        "words only": {"data.level": "semantic"},
        "ungrounded": {"data.ungrounded": True, "data.text_length": 112},
        "masked reconstruction": {"objective.reconstruction_form": "masked"},
        "adamw": {"optimizer.kind": "adamw", "optimizer.learning_rate": 2e-3},
        "attention pool": {"model.encoder.pool": "attention"},
        "sigmoid": {"objective.contrastive_form": "sigmoid"},
        "numbers only": {"data.level": "statistical"},
    }
