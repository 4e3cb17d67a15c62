"""sleeplm_jax: large-scale pretraining of sleep-language models in JAX.

Importing this package starts no JAX backend and loads nothing heavy.
"""

__version__ = "0.1.0"
