"""What a run was made of: versions, hashes, commit, devices, command."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import subprocess
import sys
from pathlib import Path

import jax

from sleeplm_jax import __version__
from sleeplm_jax.config import RunConfig
from sleeplm_jax.corpus.builder import SPLITS
from sleeplm_jax.files import write_json
from sleeplm_jax.places import Place

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy",
            "tensorflow-datasets", "sentencepiece")


def git_commit() -> str | None:
    """Commit of the checkout the package runs from, with `+changes` when it is dirty."""
    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *arguments],
            capture_output=True, text=True, timeout=10, check=True,
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def write_provenance(folder: Place, config: RunConfig, corpus, tokenizer, *,
                     goes_on: bool = False) -> None:
    """`run.json`: enough to tell, later, what this run's figures rest on.

    Where the run `goes_on` with other data, those before are kept beside them: an evaluation must
    know everyone that was trained on.
    """
    before = json.loads((folder / "run.json").read_text())["corpus"] if goes_on else {}
    about = {
        "sleeplm_jax": __version__,
        "git_commit": git_commit(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "devices": [device.device_kind for device in jax.devices()],
        "command": sys.argv,
        "corpus": {
            "hash": corpus.hash, "simulated": corpus.simulated,
            "subjects": {split: corpus.subjects(split) for split in SPLITS},
            # By content too: names can be given anew, recordings stay what they are.
            "signals": {
                split: [n["signals_sha256"] for n in corpus.nights(split)] for split in SPLITS
            },
        },
        "tokenizer": {"hash": tokenizer.hash, "vocab_size": tokenizer.vocab_size},
    }
    if before:
        now = about["corpus"]
        now["before"] = [*before.get("before", []), before["hash"]]
        now["simulated"] = now["simulated"] or before["simulated"]
        for name in ("subjects", "signals"):
            for split, known in now[name].items():
                now[name][split] = list(dict.fromkeys([*before[name][split], *known]))
    write_json(folder / "run.json", about)
