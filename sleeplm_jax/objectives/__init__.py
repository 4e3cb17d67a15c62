"""Losses on arrays: contrastive, captioning, reconstruction."""
