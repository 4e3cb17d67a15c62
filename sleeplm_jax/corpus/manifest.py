"""A corpus on disk: its manifest `corpus.json`, its splits, and random access to its samples."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sleeplm_jax.config import SignalSpec
from sleeplm_jax.corpus.builder import SPLITS
from sleeplm_jax.corpus.selection import refuse_baseline
from sleeplm_jax.corpus.shards import Shards
from sleeplm_jax.errors import CorpusError
from sleeplm_jax.files import content_sha256, copy_file, file_sha256
from sleeplm_jax.places import Place, RemotePath, file_size, place

if TYPE_CHECKING:
    from sleeplm_jax.corpus.tokenizer import Tokenizer

CORPUS_FORMAT = 2
MANIFEST = "corpus.json"
# Shards up to this size are hashed whenever a corpus is opened (a quarter of a second); larger
# ones only when asked, their sizes always.
ALWAYS_HASHED_BYTES = 256 << 20


class Source:
    """Random access to the samples of one split, in the corpus' fixed order.

    `source[i]` is a dict: signal int16 [C, T], mask bool [C], artefact uint8 [C]
    (bits of config.ARTEFACTS), scale and offset float32 [C], stage
    int, record (a dict, see captions/record.schema.json), recording, subject, cohort (str), epoch
    int. Safe to read from several threads; reopens its files after pickling.
    """

    def __init__(self, folder: Path, split: str):
        self._folder, self._split = folder, split
        self._shards = Shards(folder, split)
        self.sizes, self.weights = (len(self._shards),), (1,)  # see order.Order

    def __len__(self) -> int:
        return len(self._shards)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        sample = self._shards[int(index)]
        try:
            sample["record"] = json.loads(sample["record"])
        except ValueError as error:
            raise CorpusError(
                self._shards.path(index), f"sample {index} of {self._split} holds a record that "
                f"is no JSON ({error})", "run `sleeplm prepare` again",
            ) from error
        for text in ("recording", "subject", "cohort"):
            sample[text] = sample[text].decode()
        return sample

    def __reduce__(self) -> tuple:
        return Source, (self._folder, self._split)

    def __repr__(self) -> str:
        return f"Source({self._split}, {len(self)} samples)"


@dataclass(frozen=True)
class Corpus:
    """A corpus that `sleeplm prepare` wrote. Use `Corpus.open`."""

    path: Place
    manifest: dict[str, Any]

    @classmethod
    def open(
        cls, path: str | Place, spec: SignalSpec | None = None, verify: bool | None = None
    ) -> Corpus:
        """Opens the corpus in folder or at address `path`, of `spec` where one is given.

        The shards' sizes are always checked, their hashes when `verify` is True or, by default,
        when they are small and on this machine; those of an object store when a split is first
        read, and they come to this machine (see `shards`). Raises CorpusError when the corpus is
        absent, of another format version, of another spec, or damaged.
        """
        path = place(path)
        corpus = cls(path, read_manifest(path))
        if spec is not None and spec != corpus.spec:
            raise CorpusError(
                path, f"its samples are {described(corpus.spec)}, not {described(spec)}",
                "prepare a corpus with this spec, or set model.spec to the corpus' own",
            )
        total = sum(file["bytes"] for file in corpus.manifest["shards"]["files"])
        if verify is None:
            verify = isinstance(path, Path) and total <= ALWAYS_HASHED_BYTES
        corpus.verify(hashes=verify)
        return corpus

    @property
    def hash(self) -> str:
        """Hex SHA-256 over the content: the nights, their splits, the spec."""
        return self.manifest["hash"]

    @cached_property
    def spec(self) -> SignalSpec:
        values = self.manifest["spec"]
        return SignalSpec(**values | {"channels": tuple(values["channels"])})

    @property
    def simulated(self) -> bool:
        """Whether any night of the corpus is simulated."""
        return self.manifest["simulated"]

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that hold samples, of train, val and test."""
        return tuple(s for s in SPLITS if self.manifest["splits"][s]["samples"])

    def refuse_baseline(self, stager: str) -> None:
        """CorpusError where the nights were selected by `stager`: it is no baseline on them."""
        refuse_baseline(self.manifest, stager, self.path)

    def nights(self, split: str | None = None) -> list[dict[str, Any]]:
        """The manifest's rows of the nights of a split (of all), in the order of the samples."""
        if split is not None:
            self._known(split)
        return [n for n in self.manifest["nights"] if split in (None, n["split"])]

    def subjects(self, split: str) -> list[str]:
        """The people of a split, sorted, each as "cohort/subject"."""
        return sorted({f"{n['cohort']}/{n['subject']}" for n in self.nights(split)})

    def samples(self, split: str) -> int:
        """How many samples `split` holds."""
        self._known(split)
        return self.manifest["splits"][split]["samples"]

    def source(self, split: str) -> Source:
        """Random access to the samples of `split`; CorpusError when it holds none."""
        if not self.samples(split):
            raise CorpusError(
                self.path, f"its {split} split is empty ({len(self.nights())} nights in all)",
                "prepare more subjects, or give another split",
            )
        return Source(self.shards(), split)

    def shards(self) -> Path:
        """The folder of the shards on this machine.

        Those of an object store are copied to the cache (see `cache_folder`) once, each checked
        against its hash; a copy that is there is taken where its size fits.
        """
        listed = self.manifest["shards"]
        if not isinstance(self.path, RemotePath):
            return self.path / listed["folder"]
        cached = cache_folder() / f"shards-{content_sha256(listed['files'])[:16]}"
        for file in listed["files"]:
            copy = cached / file["name"]
            if copy.is_file() and copy.stat().st_size == file["bytes"]:
                continue
            try:
                copy_file(self.path / listed["folder"] / file["name"], copy)
            except FileNotFoundError:
                copy.unlink(missing_ok=True)
            except OSError as error:  # of this machine: a store's own are UserErrors
                raise CorpusError(
                    cached, f"cannot take the shards of {self.path} ({error.strerror or error})",
                    "free space there, or name another folder by SLEEPLM_CACHE",
                ) from error
            if not copy.is_file() or file_sha256(copy) != file["sha256"]:
                copy.unlink(missing_ok=True)
                raise CorpusError(
                    self.path / listed["folder"] / file["name"],
                    "shard is missing or not what was written (SHA-256 differs)",
                    "run `sleeplm prepare` again to rebuild it",
                )
        return cached

    def index(self, split: str) -> dict[str, np.ndarray]:
        """Where each sample of `split` comes from, without reading the shards.

        `recording`, `subject`, `cohort` (str [N]), `epoch` (int32 [N], of the recording).
        """
        columns: dict[str, list] = {"recording": [], "subject": [], "cohort": [], "epoch": []}
        for night in self.nights(split):
            kept = np.setdiff1d(np.arange(night["epochs"], dtype=np.int32), night["dropped"])
            for name in ("recording", "subject", "cohort"):
                columns[name].append(np.full(len(kept), night[name]))
            columns["epoch"].append(kept.astype(np.int32))
        return {
            name: np.concatenate(parts) if parts else np.array([])
            for name, parts in columns.items()
        }

    def tokenizer(self) -> Tokenizer:
        """The tokenizer trained on this corpus; CorpusError when there is none or another's."""
        from sleeplm_jax.corpus.tokenizer import Tokenizer

        tokenizer = Tokenizer.load(self.path)
        if tokenizer.corpus_hash != self.hash:
            raise CorpusError(
                self.path, "its tokenizer was trained on an earlier state of the corpus "
                f"({tokenizer.corpus_hash[:12]}, now {self.hash[:12]})",
                f"run `sleeplm tokenizer --corpus {self.path}`",
            )
        return tokenizer

    def verify(self, hashes: bool = True) -> None:
        """CorpusError when a shard is absent, of the wrong size, or (`hashes`) of other content."""
        shards = self.manifest["shards"]
        for file in shards["files"]:
            path = self.path / shards["folder"] / file["name"]
            if not path.is_file():
                finding = "shard is missing"
            elif (size := file_size(path)) != file["bytes"]:
                finding = f"shard has {size} bytes, written were {file['bytes']}"
            elif hashes and file_sha256(path) != file["sha256"]:
                finding = "shard's content is not what was written (SHA-256 differs)"
            else:
                continue
            raise CorpusError(path, finding, "run `sleeplm prepare` again to rebuild it")

    def _known(self, split: str) -> None:
        if split not in SPLITS:
            raise CorpusError(self.path, f"no split {split!r}", f"choose from {', '.join(SPLITS)}")


def cache_folder() -> Path:
    """Where copies from object stores and compiled programs go: $SLEEPLM_CACHE, else the user's
    cache folder."""
    if named := os.environ.get("SLEEPLM_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sleeplm"


def read_manifest(path: Place) -> dict[str, Any]:
    """The manifest of the corpus in folder `path`; CorpusError if absent or of another version."""
    file = path / MANIFEST
    try:
        manifest = json.loads(file.read_text())
        version = manifest["format"]
    except FileNotFoundError as error:
        raise CorpusError(
            path, f"holds no corpus (no {MANIFEST})",
            f"run `sleeplm prepare --recordings DIR --out {path}`",
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorpusError(
            file, f"cannot be read ({type(error).__name__}: {error})", "run `sleeplm prepare` again"
        ) from error
    if version != CORPUS_FORMAT:
        raise CorpusError(
            file, f"corpus of format {version}, this version reads {CORPUS_FORMAT}",
            "run `sleeplm prepare` again, or use the version that wrote it",
        )
    try:
        _check_shape(manifest)
    except (KeyError, TypeError, AttributeError) as error:
        raise CorpusError(
            file, f"is damaged ({type(error).__name__}: {error})", "run `sleeplm prepare` again"
        ) from error
    return manifest


def _check_shape(manifest: dict[str, Any]) -> None:
    """KeyError or TypeError where a part that is read later is absent or of another type."""

    def need(part: dict, name: str, kind: type) -> Any:
        if not isinstance(part[name], kind):
            raise TypeError(f"{name} is no {kind.__name__}")
        return part[name]

    need(manifest, "hash", str)
    need(manifest, "simulated", bool)
    spec = need(manifest, "spec", dict)
    SignalSpec(**spec)
    for name, kind in (("channels", list), ("rate", int), ("seconds", int)):
        need(spec, name, kind)
    for split in SPLITS:
        need(manifest["splits"][split], "samples", int)
    for night in need(manifest, "nights", list):
        for name in ("recording", "subject", "cohort", "split"):
            need(night, name, str)
        need(night, "signals_sha256", str)
        need(night, "epochs", int)
        need(night, "dropped", list)
    need(manifest["shards"], "folder", str)
    for shard in need(manifest["shards"], "files", list):
        for name, kind in (("name", str), ("bytes", int), ("sha256", str)):
            need(shard, name, kind)


def described(spec: SignalSpec) -> str:
    return f"{','.join(spec.channels)} at {spec.rate} Hz for {spec.seconds} s"
