"""JAX's cache of compiled programs on disk, so that a run that starts again does not compile again.

JAX reads it on every process and writes it on process 0 alone (jax/_src/compiler.py), so several
hosts gain by it only where all of them see the folder. A run's parent folder is such a place:
checkpoints need it to be.
"""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

import jax

from sleeplm_jax.config import RunConfig
from sleeplm_jax.corpus.manifest import cache_folder

LEAST_COMPILE_S = 0.5  # programs that compile faster are not kept
OFF = "off"


def use_compile_cache(config: RunConfig) -> str:
    """Turns the cache on as the config says; gives a line about it.

    To be called before the first compilation, after the processes have found each other. A folder
    that JAX was already told (JAX_COMPILATION_CACHE_DIR) stays, whatever the config says but "off".
    """
    if config.compile_cache == OFF:
        jax.config.update("jax_enable_compilation_cache", False)
        return "compiled programs are not kept"
    told = jax.config.jax_compilation_cache_dir
    if told:
        return f"compiled programs in {told}"
    folder = config.compile_cache or default_folder(config)
    if "://" not in folder:
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:  # a container without a home
            return f"compiled programs are not kept: {folder} ({error.strerror})"
    jax.config.update("jax_compilation_cache_dir", folder)
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", LEAST_COMPILE_S)
    return f"compiled programs in {folder}"


def default_folder(config: RunConfig) -> str:
    """The user's cache folder; for several processes one in the folder of the runs, where that is
    on a disk."""
    folder = cache_folder() / "compiled"
    if jax.process_count() > 1 and "://" not in config.out:
        folder = Path(config.out) / ".compiled"
    # A program for one kind of CPU may not run on another that shares the disk.
    return str(folder / processor() if jax.default_backend() == "cpu" else folder)


def processor() -> str:
    """What the instructions of this machine's CPU are, as a short name."""
    told = platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        told += next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        told += platform.processor()
    return "cpu-" + hashlib.sha256(told.encode()).hexdigest()[:8]
