"""The reference on two CPU cores: a ReCoCa of 2.6 M parameters on simulated nights and real pieces.

    python experiments/reference_cpu.py --out reference_cpu

simulates 36 nights of 3 h (26 people to train on, 2 to choose the checkpoint, 8 to measure on),
prepares them together with the real recordings under $SLEEPLM_PSG or ../shared/psg (without them:
simulated nights alone, and it says so), trains, and measures on the 8 SIMULATED people and, apart,
on what is real. `--seeds 0 1 2` trains three times; fields of the config follow as for `sleeplm
train` (`--steps 1000`). The same command goes on where it was stopped.

What is real: eleven people of UCDDB train without their stages (3,080 epochs of one EEG, wake and
deep sleep alone). Measured are one whole night of a twelfth (822 epochs, one EEG: one person, who
ranks nothing) and sixteen epochs of three recordings with many channels and no stages: enough to
see that they are read and captioned, too few for any figure to mean something.

Hardware: 2 CPU cores, 3 GB of memory. Time: 8 minutes 21 s by the clock for one seed from nothing,
with nothing beside it (14.5 CPU-minutes: simulate and prepare 4, train 9.6, measure 1); six more
for each further seed. Expected (seeds 0, 1 and 2):

    8 SIMULATED people never trained on, 2,880 epochs     seed 0   seed 1   seed 2
      prompted staging, kappa                             0.668    0.579    0.665
      held-out wordings, kappa                            0.585    0.482    0.735
      linear head, kappa                                  0.846    0.857    0.872
      retrieval of 100, text to signal, R@1               0.209    0.227    0.183
      retrieval of 100, text to signal, R@10              0.851    0.863    0.749
      caption loss, nats/token                            0.875    0.880    0.876
        lost with another epoch's signal                  0.051    0.054    0.053
      captions with the right stage                       0.953    0.922    0.969
    one real night (one EEG; one person), 822 epochs
      prompted staging, kappa                             0.115    0.146    0.179
      held-out wordings, kappa                            0.241    0.286    0.175
      retrieval of 100, text to signal, R@10              0.277    0.241    0.258
      captions with the right stage                       0.281    0.344    0.359

On the real night it does little better than chance: 26 simulated people and eleven without stages
teach no real staging, and a ReCoCa this small is no model to use. docs/real_night.md has one that
stages that night, by more simulation and one channel.
"""

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
    TextConfig,
)


def get_config() -> RunConfig:
    return RunConfig(
        name="reference_cpu",
        steps=400,
        data=DataConfig(
            corpus="reference_cpu/corpus",
            batch_size=64,
            text_length=96,
            captions=CaptionMix(
                stage_event=0.4, brain=0.15, heart=0.15, respiratory=0.15, position_muscle=0.15
            ),
            pair_probability=0.0,
            # The real night has one EEG and nothing else.
            channel_dropout=0.4,
            dropout_keep=("C3", "C4", "EOG-L,EOG-R,C3,C4,EMG", "ECG,ABD,THX,AF"),
        ),
        model=ModelConfig(
            encoder=EncoderConfig(
                width=112, depth=3, heads=4, mlp_ratio=2.0, patch_samples=192, stem_width=192,
                pool="cascade", caption_tokens=12,
            ),
            text=TextConfig(width=80, depth=2, decoder_depth=2, heads=4, mlp_ratio=2.0),
            embed_dim=96,
            reconstruction_width=48,
        ),
        objective=ObjectiveConfig(contrastive=1.0, caption=2.0, reconstruction=0.5),
        optimizer=OptimizerConfig(kind="muon", learning_rate=4e-3, warmup_steps=30),
        log_every=20,
        eval_every=100,
        eval_samples=512,
        checkpoint_every=100,
        tensorboard=False,
    )


if __name__ == "__main__":
    from reference.road import Cohort, main

    cohort = Cohort(hours=3.0, train=26, val=2, test=8, seed=77)
    sys.exit(main(Path(__file__), cohort, peak=40e9, mfu=1.0))
