"""The smallest experiment that trains every part; tests give it a corpus and a folder."""

from sleeplm_jax.config import (
    DataConfig,
    EncoderConfig,
    ModelConfig,
    OptimizerConfig,
    RunConfig,
    TextConfig,
)


def get_config() -> RunConfig:
    return RunConfig(
        name="tiny",
        steps=12,
        data=DataConfig(batch_size=8, text_length=48),
        model=ModelConfig(
            encoder=EncoderConfig(
                width=32, depth=1, heads=2, mlp_ratio=2.0, patch_samples=480, stem_width=32,
                caption_tokens=4,
            ),
            text=TextConfig(width=32, depth=1, decoder_depth=1, heads=2, mlp_ratio=2.0),
            embed_dim=16,
            reconstruction_width=8,
        ),
        optimizer=OptimizerConfig(learning_rate=3e-3, warmup_steps=2),
        log_every=1,
        eval_every=6,
        eval_samples=16,
        checkpoint_every=4,
        tensorboard=False,
    )
