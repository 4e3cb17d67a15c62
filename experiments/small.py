"""A ReCoCa of 29.4 M parameters (at 2,048 tokens): the place to start with recordings of your own.

    sleeplm train experiments/small.py --data.corpus CORPUS

Hardware: one GPU with `--model.compute-dtype bfloat16`, or patience. The settings are a first
guess: no figures have been measured with them yet. On several devices add `--mesh.fsdp N`, and give
`--data.batch-size` what fits: contrastive learning gains from large batches.
"""

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
        name="small",
        steps=20_000,
        data=DataConfig(batch_size=256, text_length=128, workers=4),
        model=ModelConfig(
            encoder=EncoderConfig(
                width=384, depth=8, heads=6, patch_samples=64, stem_width=384, caption_tokens=32
            ),
            text=TextConfig(width=256, depth=4, decoder_depth=4, heads=4),
            embed_dim=256,
            reconstruction_width=128,
        ),
        optimizer=OptimizerConfig(learning_rate=5e-4, warmup_steps=500),
        log_every=20,
        eval_every=500,
        eval_samples=4096,
        checkpoint_every=500,
    )
