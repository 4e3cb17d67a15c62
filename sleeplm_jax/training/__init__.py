"""Optimiser, step, loop and metrics writers."""
