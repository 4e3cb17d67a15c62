"""Several corpora as one, each with a weight: what a `Corpus` is to a loader, made of several."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from sleeplm_jax.config import DataConfig, SignalSpec
from sleeplm_jax.corpus.limited import limited
from sleeplm_jax.corpus.manifest import Corpus, Source, described
from sleeplm_jax.corpus.order import LONGEST_PERIOD, integer_weights
from sleeplm_jax.corpus.splits import family_of_people, person
from sleeplm_jax.errors import ConfigError, CorpusError
from sleeplm_jax.files import content_sha256
from sleeplm_jax.places import Place

if TYPE_CHECKING:
    from sleeplm_jax.corpus.tokenizer import Tokenizer

FIELD = "data.mixture"


def open_data(data: DataConfig) -> Corpus | Mixture:
    """What `data` trains on: `data.mixture` where it names any, else `data.corpus`.

    With `data.unique_hours` only so many hours of the training split. Raises ConfigError for a
    mixture that cannot be read, CorpusError as `Corpus.open`, when its corpora do not fit together,
    or when there is less to train on.
    """
    if data.mixture:
        return Mixture.open(data.mixture)
    corpus = Corpus.open(data.corpus)
    return limited(corpus, data.unique_hours) if data.unique_hours else corpus


def tokenizer_for(corpus: Corpus | Mixture, data: DataConfig) -> Tokenizer:
    """The tokenizer in the folder `data.tokenizer`, else the corpus' own; CorpusError if none."""
    from sleeplm_jax.corpus.tokenizer import Tokenizer

    return Tokenizer.load(data.tokenizer) if data.tokenizer else corpus.tokenizer()


def parts_of(corpus: Corpus | Mixture) -> list[tuple[str, Corpus, int]]:
    """Name, corpus and weight of each part of a mixture; of a corpus itself, without a name."""
    if isinstance(corpus, Corpus):
        return [("", corpus, 1)]
    return list(zip(corpus.names, corpus.corpora, corpus.weights, strict=True))


@dataclass(frozen=True)
class Mixture:
    """Corpora of one spec and their weights, integers without a common divisor.

    The samples of a split are those of the first corpus, then of the second, and so on.
    """

    corpora: tuple[Corpus, ...]
    weights: tuple[int, ...]

    @classmethod
    def open(cls, entries: Sequence[str]) -> Mixture:
        """Opens the corpora of entries "FOLDER=weight"."""
        folders, weights = zip(*map(_read, entries), strict=True)
        if len(set(folders)) < len(folders):
            twice = next(folder for folder in folders if folders.count(folder) > 1)
            raise ConfigError(FIELD, f"names {twice} twice", "give it once, with the sum")
        whole = integer_weights(weights)
        if sum(whole) > LONGEST_PERIOD:
            raise ConfigError(
                FIELD, f"has weights that only {sum(whole):,} samples keep to",
                "give weights of fewer digits, such as 0.7 and 0.3",
            )
        corpora = tuple(Corpus.open(folder) for folder in folders)
        first = corpora[0]
        for folder, corpus in zip(folders, corpora, strict=True):
            if corpus.spec != first.spec:
                raise CorpusError(
                    folder, f"holds samples of {described(corpus.spec)}, {folders[0]} of "
                    f"{described(first.spec)}", "prepare them for one spec; a channel that "
                    "recordings lack is masked",
                )
            if not corpus.samples("train"):
                raise CorpusError(folder, "has no training samples", "leave it out")
        hashes = [corpus.hash for corpus in corpora]
        if len(set(hashes)) < len(hashes):
            a, b = [folders[i] for i, h in enumerate(hashes) if hashes.count(h) > 1][:2]
            raise CorpusError(b, f"is the same corpus as {a}", "give it once, with the sum")
        _refuse_leaks(corpora)
        return cls(corpora, whole)

    @property
    def path(self) -> Place:
        """Of the first corpus."""
        return self.corpora[0].path

    @property
    def spec(self) -> SignalSpec:
        return self.corpora[0].spec

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What each is called in tables: its folder's name, numbered where two have the same."""
        bare = [PurePosixPath(str(corpus.path)).name for corpus in self.corpora]
        return tuple(
            name if bare.count(name) == 1 else f"{name}-{place + 1}"
            for place, name in enumerate(bare)
        )

    @property
    def hash(self) -> str:
        """Hex SHA-256 over the corpora's hashes and weights; of one alone, its own."""
        if len(self.corpora) == 1:
            return self.corpora[0].hash
        return content_sha256([
            [corpus.hash, weight] for corpus, weight in zip(self.corpora, self.weights, strict=True)
        ])

    @property
    def simulated(self) -> bool:
        return any(corpus.simulated for corpus in self.corpora)

    def shares(self) -> tuple[float, ...]:
        """Of the training samples, each corpus' share."""
        return tuple(weight / sum(self.weights) for weight in self.weights)

    def samples(self, split: str) -> int:
        """Of all of them together."""
        return sum(corpus.samples(split) for corpus in self.corpora)

    def nights(self, split: str | None = None) -> list[dict[str, Any]]:
        return [night for corpus in self.corpora for night in corpus.nights(split)]

    def subjects(self, split: str) -> list[str]:
        return sorted({who for corpus in self.corpora for who in corpus.subjects(split)})

    def source(self, split: str) -> JoinedSource:
        """Random access to the samples of `split` of those corpora that have any."""
        pairs = [pair for pair in zip(self.corpora, self.weights, strict=True)
                 if pair[0].samples(split)]
        if not pairs:
            raise CorpusError(
                self.path, f"its {split} split and those mixed with it are empty",
                "prepare more subjects",
            )
        return JoinedSource(
            [corpus.source(split) for corpus, _ in pairs], [weight for _, weight in pairs]
        )

    def tokenizer(self) -> Tokenizer:
        """The one that all of them hold; CorpusError when they differ."""
        from sleeplm_jax.corpus.tokenizer import Tokenizer

        found = [Tokenizer.load(corpus.path) for corpus in self.corpora]
        for corpus, tokenizer in zip(self.corpora, found, strict=True):
            if tokenizer.hash != found[0].hash:
                raise CorpusError(
                    corpus.path, f"has another tokenizer ({tokenizer.hash[:12]}) than {self.path} "
                    f"({found[0].hash[:12]})",
                    "name the folder of the one to use by --data.tokenizer",
                )
        return found[0]

    def passes(self, samples: int) -> str:
        """How often each corpus is gone through in training on `samples` samples, in words."""
        return ", ".join(
            f"{name} {share:.1%}, {corpus.samples('train'):,} samples, "
            f"{samples * share / corpus.samples('train'):.2g} passes"
            for name, share, corpus in zip(self.names, self.shares(), self.corpora, strict=True)
        )


def _refuse_leaks(corpora: Sequence[Corpus]) -> None:
    """CorpusError where one corpus is tested on whom another is trained on: the same person, one
    of the same family, or the same signals under another name."""
    families = family_of_people([night for corpus in corpora for night in corpus.nights()])

    def who(night: dict[str, Any]) -> set[str]:
        one = person(night)
        return {families.get(one, one), f"signals {night['signals_sha256']}"}

    trained: dict[str, Corpus] = {}
    for corpus in corpora:
        for night in corpus.nights("train"):
            trained |= dict.fromkeys(who(night), corpus)
    for corpus in corpora:
        met = {
            person(night): trained[one] for night in corpus.nights() if night["split"] != "train"
            for one in who(night) if one in trained
        }
        if met:
            first = min(met)
            raise CorpusError(
                corpus.path, f"has {len(met)} people in its val and test splits whom the mixture "
                f"is trained on ({first} is in the training split of {met[first].path})",
                "prepare the corpora with one --splits-file",
            )


class JoinedSource:
    """Sources laid end to end; see `manifest.Source`."""

    def __init__(self, sources: Sequence[Source], weights: Sequence[int]):
        self.sources = list(sources)
        self.sizes = tuple(len(source) for source in sources)
        self.weights = integer_weights([Fraction(weight) for weight in weights])
        self._firsts = [sum(self.sizes[:place]) for place in range(len(self.sizes))]

    def __len__(self) -> int:
        return sum(self.sizes)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        part = bisect_right(self._firsts, index) - 1
        return self.sources[part][index - self._firsts[part]]


def _read(entry: str) -> tuple[str, Fraction]:
    folder, sign, weight = entry.rpartition("=")
    try:
        share = Fraction(weight)
    except (ValueError, ZeroDivisionError):
        share = Fraction(0)
    if not sign or not folder or share <= 0:
        raise ConfigError(
            FIELD, f"{entry!r} is no corpus with a weight", "give FOLDER=weight, such as "
            "corpora/shhs=0.7; a weight is more than 0",
        )
    return folder.rstrip("/"), share
