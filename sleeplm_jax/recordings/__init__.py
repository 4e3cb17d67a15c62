"""A file becomes channels in physical units at native rates, scoring, and prepared nights."""
