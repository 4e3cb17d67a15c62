"""The text tokenizer: sentencepiece BPE with byte fallback, trained on a corpus' own captions.

`<corpus>/tokenizer.model` is sentencepiece's file, `<corpus>/tokenizer.json` says what it was
trained on. Its hash goes into every checkpoint. A second kind behind the same interface is CLIP's
(clip_bpe.py): padding is 0 in both, the other marks are properties.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sleeplm_jax.config import CAPTION_KINDS
from sleeplm_jax.corpus.manifest import Corpus
from sleeplm_jax.errors import CorpusError, UserError
from sleeplm_jax.files import file_sha256, write_atomically, write_json
from sleeplm_jax.places import Place, place

MODEL, ABOUT = "tokenizer.model", "tokenizer.json"
TOKENIZER_FORMAT = 1
PAD, BOS, EOS, UNK = range(4)
SMALLEST_VOCAB = 4 + 256 + 40  # specials, bytes, and room for letters and digits
LARGEST_VOCAB = 1 << 20  # templates give a few thousand pieces at most
# Renderings of each kind of each sample that training reads: both styles of what the input shows,
# and one of the whole record, so that one tokenizer serves every setting of DataConfig.
WORDINGS = 4
SPACE = "\u2581"  # how a piece writes the space before a word
KNOWN_WORDS = 1 << 16  # numbers included; a few MB
MAX_SENTENCES = 60_000  # templates repeat: more of them changed no merge that mattered
# How numbers are cut, as sentencepiece's options. By its own settings a sign after a letter is
# apart too: two pieces for "bpm,".
_FREE = {"split_digits": False, "split_by_number": False, "split_by_unicode_script": False}
NUMBERS = {
    "whole": _FREE,  # "68%," may be one piece
    "apart": _FREE | {"user_defined_symbols": ["%", ","]},  # "68", "%", ","
    "digits": _FREE | {"split_digits": True},  # "6", "8", "%,"; SleepLM's, CLIP's, cuts all three
}


@dataclass(frozen=True)
class Tokenizer:
    """Text to int32 ids and back. Use `Tokenizer.load` or `train_tokenizer`."""

    model: bytes
    about: dict[str, Any]
    kind = "sentencepiece"

    @classmethod
    def load(cls, path: str | Place) -> Tokenizer:
        """The tokenizer in a folder (a corpus, a run).

        Raises CorpusError when it is absent, damaged, or of another format version.
        """
        folder = place(path)
        train = "run `sleeplm tokenizer --corpus CORPUS`"
        try:
            about = json.loads((folder / ABOUT).read_text())
            model = (folder / MODEL).read_bytes()
            version, digest = about["format"], about["sha256"]
        except FileNotFoundError as error:
            raise CorpusError(folder, f"holds no tokenizer (no {Path(error.filename).name})", train
                              ) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CorpusError(
                folder / ABOUT, f"cannot be read ({type(error).__name__}: {error})", train
            ) from error
        if version != TOKENIZER_FORMAT:
            raise CorpusError(
                folder / ABOUT,
                f"tokenizer of format {version}, this version reads {TOKENIZER_FORMAT}", train,
            )
        if hashlib.sha256(model).hexdigest() != digest:
            raise CorpusError(
                folder / MODEL, f"does not belong to {ABOUT} beside it (SHA-256 differs)", train
            )
        try:
            if not isinstance(about["corpus"], str):
                raise TypeError("corpus is no hash")
            about["settings"]
            made = _class_of(about.get("kind", cls.kind))(model, about)
            made.vocab_size  # noqa: B018  parses the model
        except UserError:  # CLIP's needs a package
            raise
        except Exception as error:  # each library has its own for a damaged model
            finding = " ".join(str(error).split())[:120]
            raise CorpusError(
                folder / MODEL, f"is damaged ({type(error).__name__}: {finding})", train
            ) from error
        return made

    def save(self, folder: Place) -> None:
        """Writes both files into `folder`; `tokenizer.json`, written last, makes them valid."""
        write_atomically(folder / MODEL, self.model)
        write_json(folder / ABOUT, self.about)

    @functools.cached_property
    def processor(self) -> Any:
        """The library's own object: sentencepiece's here."""
        import sentencepiece

        return sentencepiece.SentencePieceProcessor(model_proto=self.model)

    def __reduce__(self) -> tuple:
        return Tokenizer, (self.model, self.about)

    @property
    def hash(self) -> str:
        """Hex SHA-256 of `model`."""
        return self.about["sha256"]

    @property
    def pad_id(self) -> int:
        return PAD

    @property
    def bos_id(self) -> int:
        return BOS

    @property
    def eos_id(self) -> int:
        return EOS

    @property
    def unwritten(self) -> tuple[int, ...]:
        """Ids that no caption holds, whatever a model says."""
        return PAD, BOS

    @property
    def corpus_hash(self) -> str:
        return self.about["corpus"]

    @property
    def vocab_size(self) -> int:
        return self.processor.get_piece_size()

    def pieces(self) -> list[str]:
        """What each id stands for, as the library spells it."""
        return [self.processor.id_to_piece(i) for i in range(self.vocab_size)]

    def ids(self, text: str) -> list[int]:
        """Token ids of `text` without bos and eos, as many as it takes."""
        words = text.split(" ")
        if not self._apart or "" in words:  # several spaces in a row may be one piece
            return self.processor.encode(text)
        found: list[int] = []
        for word in words:
            ids = self._known.get(word)
            if ids is None:
                if len(self._known) >= KNOWN_WORDS:
                    self._known.clear()
                ids = self._known[word] = tuple(self.processor.encode(word))
            found += ids
        return found

    @functools.cached_property
    def _apart(self) -> bool:
        """Whether no piece reaches over a space, so that a text's ids are those of its words.

        A merge makes a piece of the vocabulary, so merges then stay within words, and what they
        are in one word depends on no other: captions repeat their words, which are kept.
        """
        pieces = (self.processor.id_to_piece(i) for i in range(self.vocab_size))
        return not any(SPACE in piece[1:] for piece in pieces)

    @functools.cached_property
    def _known(self) -> dict[str, tuple[int, ...]]:
        return {}

    def encode(self, text: str, length: int) -> np.ndarray:
        """int32 [length]: bos, the text, eos, then padding; a longer text is cut before its eos."""
        if length < 2:
            raise ValueError(f"length {length} has no room for bos and eos")
        ids = self.ids(text)[: length - 2]
        row = np.full(length, self.pad_id, np.int32)
        row[0], row[1 : 1 + len(ids)], row[1 + len(ids)] = self.bos_id, ids, self.eos_id
        return row

    def decode(self, ids: np.ndarray | list[int]) -> str:
        """The text of ids [L] up to the first eos; bos, padding and unknown ids say nothing."""
        kept = []
        for token in np.asarray(ids).tolist():
            if token == EOS:
                break
            if EOS < token < self.vocab_size and token != UNK:
                kept.append(token)
        return self.processor.decode(kept)


def _class_of(kind: str) -> type[Tokenizer]:
    if kind == Tokenizer.kind:
        return Tokenizer
    from sleeplm_jax.corpus.clip_bpe import ClipTokenizer

    if kind != ClipTokenizer.kind:
        raise ValueError(f"unknown kind {kind!r}")
    return ClipTokenizer


def train_tokenizer(
    corpus: Corpus,
    vocab_size: int = 2048,
    seed: int = 0,
    numbers: str = "whole",
    max_sentences: int = MAX_SENTENCES,
) -> Tokenizer:
    """Trains a tokenizer on captions of the corpus' train split and saves it in its folder.

    The vocabulary gets at most `vocab_size` pieces, fewer when the text has no more to merge;
    `numbers` is one of NUMBERS.
    The same corpus, settings and captions give the same bytes; training again is skipped then.
    Raises CorpusError when the corpus has nothing to train on or the vocabulary is too small.
    """
    import sentencepiece

    if vocab_size < SMALLEST_VOCAB:
        raise CorpusError(
            "--vocab-size", f"{vocab_size} pieces cannot hold 256 bytes and the letters",
            f"give {SMALLEST_VOCAB} or more",
        )
    if vocab_size > LARGEST_VOCAB:
        raise CorpusError("--vocab-size", f"is {vocab_size}", f"give at most {LARGEST_VOCAB}")
    settings = {
        "vocab_size": vocab_size, "seed": seed, "numbers": numbers,
        "max_sentences": max_sentences, "wordings": WORDINGS, "captions": captions_version(),
        "sentencepiece": sentencepiece.__version__,
    }
    try:
        present = Tokenizer.load(corpus.path)
        if present.corpus_hash == corpus.hash and present.about["settings"] == settings:
            return present
    except CorpusError:
        pass
    tokenizer = trained(corpus, settings)
    tokenizer.save(corpus.path)
    return tokenizer


def trained(corpus: Corpus, settings: dict[str, Any]) -> Tokenizer:
    """The tokenizer that `settings` (of `Tokenizer.about`) give on the train split; not saved.

    Raises CorpusError when that split has nothing to train on.
    """
    import sentencepiece

    sentences = _Counted(training_sentences(corpus, settings["seed"], settings["max_sentences"]))
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=sentences, model_writer=model, model_type="bpe",
            vocab_size=settings["vocab_size"], hard_vocab_limit=False, byte_fallback=True,
            pad_id=PAD, bos_id=BOS, eos_id=EOS, unk_id=UNK,
            normalization_rule_name="identity", remove_extra_whitespaces=False,
            # All letters: the few rare ones that are left out by default cost three bytes each.
            character_coverage=1.0, num_threads=1, minloglevel=2, input_sentence_size=0,
            shuffle_input_sentence=False, **NUMBERS[settings["numbers"]],
        )
    except RuntimeError as error:
        if sentences.count:
            raise
        raise CorpusError(
            corpus.path, "no sample of its train split has anything to describe",
            "prepare recordings with scoring or with measurable channels",
        ) from error
    about = {
        "format": TOKENIZER_FORMAT,
        "sha256": hashlib.sha256(model.getvalue()).hexdigest(),
        "corpus": corpus.hash,
        "settings": settings,
        "sentences": sentences.count,
    }
    tokenizer = Tokenizer(model.getvalue(), about)
    about["vocab_size"] = tokenizer.vocab_size
    return tokenizer


def retrained(corpus: Corpus, tokenizer: Tokenizer) -> Tokenizer | None:
    """`tokenizer` trained anew on the train split as its settings say: the same bytes prove it.

    None where this version words captions otherwise, or another sentencepiece is installed:
    then other bytes prove nothing.
    """
    import sentencepiece

    settings = tokenizer.about["settings"]
    now = {"captions": captions_version(), "sentencepiece": sentencepiece.__version__,
           "wordings": WORDINGS}  # fmt: skip
    if any(settings.get(name) != value for name, value in now.items()):
        return None
    if settings.get("numbers") not in NUMBERS:
        return None
    return trained(corpus, settings)


def training_sentences(corpus: Corpus, seed: int, max_sentences: int) -> Iterator[str]:
    """Captions of evenly spaced train samples, every kind in several wordings of every style."""
    from sleeplm_jax.captions.render import render
    from sleeplm_jax.captions.wording import STYLES

    styles = list(STYLES)
    source = corpus.source("train")
    each = len(CAPTION_KINDS) * WORDINGS
    wanted = max(1, min(len(source), max_sentences // each))
    for index in np.linspace(0, len(source) - 1, wanted).astype(int).tolist():
        record = source[index]["record"]
        rng = np.random.default_rng([seed, index])
        for kind in CAPTION_KINDS:
            for wording in range(WORDINGS):
                spec = None if wording == WORDINGS - 1 else corpus.spec
                text = render(record, kind, rng, style=styles[wording % len(styles)], spec=spec)
                if text is not None:
                    yield text


class _Counted:
    """An iterator that knows how many it gave."""

    def __init__(self, items: Iterator[str]):
        self._items, self.count = items, 0

    def __iter__(self) -> _Counted:
        return self

    def __next__(self) -> str:
        item = next(self._items)
        self.count += 1
        return item


@functools.cache
def captions_version() -> str:
    """Hash of the code and templates that word captions."""
    folder = Path(__file__).resolve().parent.parent / "captions"
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".py", ".yaml", ".json"):
            digest.update(f"{path.relative_to(folder).as_posix()} {file_sha256(path)}\n".encode())
    return digest.hexdigest()
