"""A small ReCoCa for two CPU cores, on a simulated cohort.

    make quickstart

or, with a corpus at hand,

    sleeplm train experiments/quickstart.py --data.corpus CORPUS

Hardware: 2 CPU cores, some 3 minutes. It shows that the road works; simulated nights are easier
than real ones and its figures say nothing about sleep.
"""

from sleeplm_jax.config import (
    CaptionMix,
    DataConfig,
    EncoderConfig,
    ModelConfig,
    ObjectiveConfig,
    OptimizerConfig,
    RunConfig,
    TextConfig,
)


def get_config() -> RunConfig:
    return RunConfig(
        name="quickstart",
        steps=280,
        data=DataConfig(
            batch_size=64,
            text_length=80,
            # In so few steps a model learns one thing well: mostly what the stage is.
            captions=CaptionMix(
                stage_event=0.6, brain=0.1, heart=0.1, respiratory=0.1, position_muscle=0.1
            ),
            pair_probability=0.0,
            channel_dropout=0.1,
        ),
        model=ModelConfig(
            encoder=EncoderConfig(
                width=128, depth=2, heads=4, mlp_ratio=2.0,
                # 3-s patches of one channel behind a two-layer stem: few tokens, and band power
                # is one layer away.
                patch_samples=192, stem_width=256, caption_tokens=16,
            ),
            text=TextConfig(width=128, depth=2, decoder_depth=2, heads=4, mlp_ratio=2.0),
            embed_dim=128,
            reconstruction_width=64,
        ),
        objective=ObjectiveConfig(contrastive=1.0, caption=2.0, reconstruction=0.5),
        optimizer=OptimizerConfig(learning_rate=2e-3, warmup_steps=30),
        log_every=20,
        eval_every=80,
        eval_samples=512,
        checkpoint_every=80,
    )
