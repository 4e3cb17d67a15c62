"""What a run was made of, and each start of it: config, code, versions, hardware, command.

Of the environment a few variables are named, never all: others hold tokens. Of files that git does
not know only code is named: others may be called after people.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path

import jax

from sleeplm_jax import __version__
from sleeplm_jax.config import RunConfig
from sleeplm_jax.config.files import to_dict
from sleeplm_jax.corpus.builder import SPLITS
from sleeplm_jax.files import write_atomically, write_json
from sleeplm_jax.places import Place

DISTRIBUTION = "sleeplm-jax"
BACKENDS = ("jax", "libtpu", "nvidia-")  # beginnings of names that no requirement lists
VARIABLES = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "JAX_PLATFORMS", "JAX_NUM_CPU_DEVICES",
             "JAX_DEFAULT_MATMUL_PRECISION", "SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID",
             "SLURM_ARRAY_TASK_ID", "SLURM_RESTART_COUNT")
CODE = (".py", ".pyi", ".sh", ".toml", ".cfg", ".lock", ".c", ".cc", ".cu")
DIFF_BYTES = 1_000_000  # of a change to the code that are kept
MOST_NAMES = 100
GIT_S = 20
# Whatever the user's git shows: a diff is kept to be applied.
PLAIN = ("-c", "core.quotePath=false", "-c", "diff.noprefix=false", "-c",
         "diff.mnemonicPrefix=false")


@dataclasses.dataclass(frozen=True)
class Code:
    """The checkout that the package runs from."""

    commit: str
    diff: bytes  # against the commit; empty where nothing is changed
    untracked: tuple[str, ...]  # names of code that git does not know

    @property
    def named(self) -> str:
        return self.commit + ("+changes" if self.diff or self.untracked else "")


def code(folder: Path = Path(__file__).parent) -> Code | None:
    """The state of the checkout around `folder`; None where git does not know the files in it,
    such as in a package that was installed."""
    def git(*arguments: str) -> bytes:
        return subprocess.run(
            ["git", "-C", str(folder), *PLAIN, *arguments],
            capture_output=True, timeout=GIT_S, check=True, env={**os.environ, "LC_ALL": "C"},
        ).stdout

    try:
        if not git("ls-files", "-z", "--", "."):  # a virtual environment in somebody's repository
            return None
        top = git("rev-parse", "--show-toplevel").decode().rstrip("\n")
        others = git("-C", top, "ls-files", "-z", "--others", "--exclude-standard").decode()
        return Code(
            git("rev-parse", "HEAD").decode().strip(),
            git("diff", "HEAD", "--no-color", "--no-ext-diff", "--no-textconv", "--no-relative"),
            tuple(name for name in others.split("\0") if name.endswith(CODE)),
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None


def versions() -> dict[str, str]:
    """Versions of what the package requires and of JAX's backends, as far as they are here."""
    try:
        required = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:  # run from a folder, not installed
        required = []
    wanted = {_plain(re.match(r"[\w.-]+", one)[0]) for one in required}
    found = {}
    for one in importlib.metadata.distributions():
        name = one.metadata["Name"] or ""
        if _plain(name) in wanted or _plain(name).startswith(BACKENDS):
            found[_plain(name)] = one.version
    return dict(sorted(found.items()))


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def made_of(state: Code | None) -> dict:
    """What a training's process rests on, without its data."""
    devices = jax.devices()
    return {
        "sleeplm_jax": __version__,
        "git_commit": state and state.named,
        "python": platform.python_version(),
        "packages": versions(),
        "devices": [device.device_kind for device in devices],
        "hardware": {
            "backend": devices[0].platform,
            "backend_version": devices[0].client.platform_version,
            "processes": jax.process_count(),
            "devices_a_process": jax.local_device_count(),
            "machine": platform.machine(),
            "system": platform.platform(),
            "cpus": os.cpu_count(),
            "memory_bytes": _memory(),
        },
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "command": sys.argv,
    }


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):  # not on every system
        return None


def write_launch(folder: Place, config: RunConfig, step: int) -> None:
    """`launches/TIME-STEP.json`, a file for each start of a run: the resolved config, what the
    process rests on, and where the code had changes, `launches/TIME-STEP.diff`.

    To be called once a start, by one process. The diff is cut after DIFF_BYTES, which is said.
    """
    name = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-step{step}"
    state = code()
    about = made_of(state) | {"step": step, "config": to_dict(config)}
    if state is not None:
        about["code"] = {
            "commit": state.commit,
            "diff": f"{name}.diff" if state.diff else None,
            "diff_bytes": len(state.diff),
            "diff_cut": len(state.diff) > DIFF_BYTES,
            "diff_sha256": hashlib.sha256(state.diff).hexdigest() if state.diff else None,
            "untracked": list(state.untracked[:MOST_NAMES]),
            "untracked_count": len(state.untracked),
        }
        if state.diff:
            write_atomically(folder / "launches" / f"{name}.diff", state.diff[:DIFF_BYTES])
    write_json(folder / "launches" / f"{name}.json", about)


def write_provenance(folder: Place, config: RunConfig, corpus, tokenizer, *,
                     goes_on: bool = False) -> None:
    """`run.json`: enough to tell, later, what this run's figures rest on.

    Where the run `goes_on` with other data, those before are kept beside them: an evaluation must
    know everyone that was trained on.
    """
    before = json.loads((folder / "run.json").read_text())["corpus"] if goes_on else {}
    about = made_of(code()) | {
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
