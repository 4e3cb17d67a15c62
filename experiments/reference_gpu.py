"""The reference on one GPU: a ReCoCa of 30 M parameters on simulated nights and real pieces.

    python experiments/reference_gpu.py --out reference_gpu

The road of reference_cpu.py with 96 nights of 6 h (80 people to train on, 4 to choose the
checkpoint, 12 to measure on). `--size` says what the training costs, by count, and runs nothing.

Hardware: one GPU of 24 GB or more and 16 CPU cores. It has not been run: neither its time nor its
figures were measured. 20 minutes are reckoned so:

  simulate, prepare   4 min   1.8 CPU-seconds an hour of sleep, as on the CPUs of reference_cpu.py
  train               7 min   409,600 samples, 1,000 a second from the loader; the device alone
                              needs 4.5 min at an MFU of 5 % of an H100's 989 TFLOP/s (13.1 PFLOP)
  measure             3 min   a guess

Memory 13.1 GiB by count (parameters, gradients, moments, activations of 512 samples under
remat="dots"). Expected figures: not measured.
"""

import dataclasses
import sys
from pathlib import Path

from sleeplm_jax.config import CaptionMix, DataConfig, ObjectiveConfig, OptimizerConfig, RunConfig
from sleeplm_jax.models.presets import preset


def get_config() -> RunConfig:
    base = preset("sleeplm-30m")
    encoder = dataclasses.replace(base.model.encoder, pool="cascade")
    return dataclasses.replace(
        base,
        name="reference_gpu",
        steps=800,
        data=DataConfig(
            corpus="reference_gpu/corpus",
            batch_size=512,
            text_length=112,
            captions=CaptionMix(
                stage_event=0.4, brain=0.15, heart=0.15, respiratory=0.15, position_muscle=0.15
            ),
            pair_probability=0.0,
            channel_dropout=0.4,
            dropout_keep=("C3", "C4", "EOG-L,EOG-R,C3,C4,EMG", "ECG,ABD,THX,AF"),
            workers=14,
        ),
        model=dataclasses.replace(
            base.model, encoder=encoder, compute_dtype="bfloat16", remat="dots"
        ),
        objective=ObjectiveConfig(contrastive=1.0, caption=2.0, reconstruction=0.5),
        optimizer=OptimizerConfig(kind="muon", learning_rate=2e-3, warmup_steps=60),
        log_every=20,
        eval_every=200,
        eval_samples=2048,
        checkpoint_every=200,
    )


if __name__ == "__main__":
    from reference.road import Cohort, main

    cohort = Cohort(hours=6.0, train=80, val=4, test=12, seed=177)
    sys.exit(main(Path(__file__), cohort, peak=989e12, mfu=0.05))
