"""Using a trained run: embed signals and texts, write captions."""
