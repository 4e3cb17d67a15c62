"""From night files to a corpus that is valid: shards, then the manifest that names them."""

from __future__ import annotations

import dataclasses
import json
import platform
import secrets
import tempfile
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import Any

from sleeplm_jax.config import STAGES, SignalSpec
from sleeplm_jax.corpus.builder import SPLITS, PackedNight, pack
from sleeplm_jax.corpus.jobs import night_file
from sleeplm_jax.corpus.manifest import CORPUS_FORMAT, MANIFEST, Corpus, read_manifest
from sleeplm_jax.corpus.progress import Progress
from sleeplm_jax.errors import CorpusError
from sleeplm_jax.files import (
    TEMPORARY,
    content_sha256,
    copy_file,
    file_sha256,
    remove_folder,
    write_json,
)
from sleeplm_jax.places import Place, RemotePath

PACKAGES = (
    "sleeplm_jax", "numpy", "scipy", "edfio", "mne", "sleepecg", "tensorflow-datasets",
    "array_record",
)


def corpus_hash(rows: list[dict], spec: SignalSpec, selection: dict | None = None) -> str:
    """Hex SHA-256 over the content of a corpus: the nights, their splits, the spec.

    And `selection`, who chose the nights (see selection.py), where somebody did.
    """
    content = {
        "format": CORPUS_FORMAT, "spec": dataclasses.asdict(spec),
        "nights": [{k: row[k] for k in ("recording", "cohort", "subject", "split", "sha256")}
                   for row in rows],
        **({} if selection is None else {"selection": selection}),
    }
    return content_sha256(json.loads(json.dumps(content)))


def is_there(out: Place, digest: str) -> bool:
    """Whether the corpus in `out` already is the one with this hash, undamaged."""
    try:
        if read_manifest(out)["hash"] != digest:
            return False
        Corpus.open(out)
    except CorpusError:
        return False
    return True


def commit(
    rows: list[dict], spec: SignalSpec, out: Place, nights: Place, digest: str, further: dict,
    progress: bool,
) -> None:
    """Packs the nights beside the shards in use, then replaces the manifest.

    From the manifest on the corpus is the new one; whatever is cut short before leaves the old
    one whole. `further`: what the manifest holds beside the rows and their sums.
    """
    shards = _pack(rows, spec, out, nights, digest, progress)
    write_json(out / MANIFEST, {**_summary(rows, spec, digest), **further, "shards": shards})


def _pack(
    rows: list[dict], spec: SignalSpec, out: Place, nights: Place, digest: str, progress: bool
) -> dict[str, Any]:
    """Writes the shards beside those in use and returns the manifest's entry for them."""
    listed = {
        split: [PackedNight(night_file(nights, row["night"]), row["samples"])
                for row in rows if row["split"] == split and row["samples"]]
        for split in SPLITS
    }
    folder = f"shards-{digest[:12]}"
    remote = isinstance(out, RemotePath)
    # TFDS writes to a disk; a store gets the finished files, one by one.
    disk = Path(tempfile.gettempdir()) if remote else out
    partial = disk / f"{TEMPORARY}{secrets.token_hex(4)}"
    try:
        with Progress("packing", sum(row["samples"] for row in rows), enabled=progress) as bar:
            shards = pack(listed, spec, partial, bar.advance)
        paths = sorted(shards.iterdir())
        files = [
            {"name": path.name, "bytes": path.stat().st_size, "sha256": file_sha256(path)}
            for path in paths
        ]
        remove_folder(out / folder)  # same content, but damaged or left by an interruption
        if remote:
            for path in paths:
                copy_file(path, out / folder / path.name)
        else:
            shards.rename(out / folder)
    finally:
        remove_folder(partial)
    return {"folder": folder, "files": files}


def _summary(rows: list[dict], spec: SignalSpec, digest: str) -> dict[str, Any]:
    splits = {}
    for split in SPLITS:
        members = [row for row in rows if row["split"] == split]
        stages = Counter()
        for row in members:
            stages.update(row["stages"])
        splits[split] = {
            "subjects": len({(row["cohort"], row["subject"]) for row in members}),
            "nights": len(members),
            "samples": sum(row["samples"] for row in members),
            "stages": {name: stages[name] for name in (*STAGES, "unscored", "movement")},
        }
    return {
        "format": CORPUS_FORMAT,
        "hash": digest,
        "spec": dataclasses.asdict(spec),
        "simulated": any(row["simulated"] for row in rows),
        "simulated_nights": sum(row["simulated"] for row in rows),
        "cohorts": dict(sorted(Counter(row["cohort"] for row in rows).items())),
        "splits": splits,
        "nights": rows,
        "versions": {"python": platform.python_version()}
        | {name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def tidy(out: Place, nights: Place, kept: dict[str, dict]) -> None:
    """Removes what the committed corpus does not use: a withdrawn recording leaves no copy."""
    for path in list(nights.iterdir()):
        if path.stem not in kept:
            path.unlink()
    current = read_manifest(out)["shards"]["folder"]
    for folder in list(out.glob("shards-*")):
        if folder.name != current:
            remove_folder(folder)
