"""Scaling studies: planned, run through a launcher, fitted with error bars; and the dry run."""
