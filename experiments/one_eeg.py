"""A ReCoCa over one EEG derivation, from simulated nights and a few real epochs.

    python experiments/benchmarks/real_night.py --psg PSG --out real_night

prepares its corpora and trains, evaluates and describes with it. Hardware: 2 CPU cores, some 15
minutes. docs/real_night.md gives the figures to expect.
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


def get_config() -> RunConfig:
    return RunConfig(
        name="one_eeg",
        steps=1200,
        data=DataConfig(
            corpus="real_night/corpus",
            batch_size=128,
            text_length=80,
            captions=CaptionMix(
                stage_event=0.7, brain=0.3, heart=0.0, respiratory=0.0, position_muscle=0.0
            ),
            pair_probability=0.0,
            channel_dropout=0.0,
        ),
        model=ModelConfig(
            spec=SignalSpec(channels=("C3",)),
            encoder=EncoderConfig(
                width=128, depth=4, heads=4, mlp_ratio=2.0, patch_samples=64, stem_width=256,
                caption_tokens=8,
            ),
            text=TextConfig(width=96, depth=1, decoder_depth=1, heads=4, mlp_ratio=2.0),
            embed_dim=64,
            reconstruction_width=64,
        ),
        objective=ObjectiveConfig(contrastive=1.0, caption=1.0, reconstruction=0.1),
        optimizer=OptimizerConfig(learning_rate=2e-3, warmup_steps=60),
        log_every=50,
        eval_every=200,
        eval_samples=1024,
        checkpoint_every=200,
    )
