"""Encoders, text tower, decoder and reconstruction head: Flax NNX, nowhere else."""
