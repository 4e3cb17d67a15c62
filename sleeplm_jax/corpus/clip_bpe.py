"""CLIP's byte-pair tokenizer, for models whose words are CLIP's (SleepLM's).

The vocabulary is the user's file `bpe_simple_vocab_16e6.txt.gz` (openai/CLIP, MIT; any checkout of
CLIP or open_clip has it): a line of heading, then one merge a line. Ids: the 256 bytes, the same
at a word's end, the merges, start and end of text; padding is 0, which is also the token "!".

Text is unescaped from HTML twice, brought to NFC, its white space collapsed, lower-cased. The
original repairs wrongly decoded text first (ftfy); captions are ASCII, so that step is left out.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import html
import io
import re
import unicodedata
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from sleeplm_jax.corpus.tokenizer import TOKENIZER_FORMAT, Tokenizer
from sleeplm_jax.errors import CorpusError, UserError

WORD_END = "</w>"
MERGES = 49152 - 256 - 2  # of the published file that CLIP reads; the rest of it goes unused
LARGEST_FILE = 32 << 20  # bytes, unpacked; the published file has 3 MB
# Contractions, words, single digits, runs of signs: nothing is merged across these.
PIECES = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


class ClipTokenizer(Tokenizer):
    """CLIP's tokenizer behind the interface of `Tokenizer`; `model` is the vocabulary file."""

    kind = "clip"

    @functools.cached_property
    def processor(self) -> Any:
        try:
            from tokenizers import Regex, decoders, models, pre_tokenizers
            from tokenizers import Tokenizer as Fast
        except ImportError:
            raise UserError(
                "CLIP's vocabulary", "needs the package tokenizers, which is not installed",
                "pip install 'sleeplm-jax[torch]'",
            ) from None
        letters = list(byte_letters().values())
        merges = read_merges(self.model)
        words = [*letters, *(letter + WORD_END for letter in letters), *map("".join, merges)]
        numbered = {word: i for i, word in enumerate([*words, "<start_of_text>", "<end_of_text>"])}
        if len(numbered) != len(words) + 2:
            raise ValueError("two merges give the same piece")
        # Its constructor raises for a merge of pieces that no line before has made.
        fast = Fast(models.BPE(vocab=numbered, merges=merges, end_of_word_suffix=WORD_END))
        fast.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(PIECES), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ])
        fast.decoder = decoders.ByteLevel()
        return fast

    def __reduce__(self) -> tuple:
        return ClipTokenizer, (self.model, self.about)

    @property
    def vocab_size(self) -> int:
        return self.processor.get_vocab_size()

    @property
    def bos_id(self) -> int:
        return self.vocab_size - 2

    @property
    def eos_id(self) -> int:
        return self.vocab_size - 1

    @property
    def unwritten(self) -> tuple[int, ...]:
        """None: CLIP's models were trained and are read with all their words."""
        return ()

    def pieces(self) -> list[str]:
        return [self.processor.id_to_token(i) for i in range(self.vocab_size)]

    def ids(self, text: str) -> list[int]:
        return self.processor.encode(cleaned(text), add_special_tokens=False).ids

    def decode(self, ids: np.ndarray | list[int]) -> str:
        """The text of ids [L] up to the first end, its numbers and signs joined up again.

        CLIP's words do not know whether a space followed: "39.05%," comes as "3 9 . 0 5 % ,".
        """
        kept = []
        for token in np.asarray(ids).tolist():
            if token == self.eos_id:
                break
            if 0 < token < self.bos_id:
                kept.append(token)
        return joined(self.processor.decode(kept).replace(WORD_END, " "))


def clip_tokenizer(path: str | Path, corpus_hash: str = "") -> ClipTokenizer:
    """The tokenizer of a vocabulary file, for a corpus (or none yet).

    Raises CorpusError when the file is absent or no such vocabulary.
    """
    remedy = "give CLIP's bpe_simple_vocab_16e6.txt.gz, as openai/CLIP and open_clip ship it"
    try:
        model = Path(path).read_bytes()
    except OSError as error:
        raise CorpusError(path, f"cannot be read ({error.strerror})", remedy) from error
    about = {
        "format": TOKENIZER_FORMAT, "kind": ClipTokenizer.kind, "corpus": corpus_hash,
        "sha256": hashlib.sha256(model).hexdigest(), "settings": {"kind": ClipTokenizer.kind},
    }
    made = ClipTokenizer(model, about)
    try:
        about["vocab_size"] = made.vocab_size
    except UserError:
        raise
    except Exception as error:  # tokenizers raises plain Exceptions for merges that do not fit
        finding = " ".join(str(error).split())[:120]
        raise CorpusError(path, f"is no BPE vocabulary ({finding})", remedy) from error
    return made


def read_merges(packed: bytes) -> list[tuple[str, str]]:
    """The merges of a vocabulary file, gzipped or plain. Raises ValueError when it is none."""
    data = packed
    if packed[:2] == b"\x1f\x8b":
        try:
            with gzip.open(io.BytesIO(packed)) as file:
                data = file.read(LARGEST_FILE + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"damaged gzip: {error}") from error
    if len(data) > LARGEST_FILE:
        raise ValueError(f"more than {LARGEST_FILE >> 20} MB of text")
    merges = []
    for number, line in enumerate(data.decode("utf-8").split("\n")[1 : MERGES + 1], 2):
        parts = line.split()
        if parts:
            if len(parts) != 2:
                raise ValueError(f"line {number} is no pair: {ascii(line[:40])}")
            merges.append((parts[0], parts[1]))
    if not merges:
        raise ValueError("holds no merges")
    return merges


@functools.cache
def byte_letters() -> dict[int, str]:
    """Byte -> the printable letter that stands for it, in the order of CLIP's first 256 ids."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {
        byte: chr(256 + i) for i, byte in enumerate(rest)
    }


def cleaned(text: str) -> str:
    """`text` as CLIP reads it."""
    text = unicodedata.normalize("NFC", html.unescape(html.unescape(text)))
    return " ".join(text.split()).lower()


# Names that end in a digit; any other word stays apart from the number after it.
_NAMES = "c|a|e|m|o|f|n|spo|sao"
JOINS = [
    (re.compile(r"(?<=\d) (?=\d)"), ""),
    (re.compile(r"(?<=\d) \. (?=\d)"), "."),
    (re.compile(rf"\b({_NAMES}) (?=\d\b)"), r"\1"),
    (re.compile(r" (?=('s|'t|'re|'ve|'m|'ll|'d)\b)"), ""),
    (re.compile(r" ([.,:;!?%)\]]+)(?= |$)"), r"\1"),
    (re.compile(r"([(\[]) "), r"\1"),
    (re.compile(r"(?<=[a-z\d]) ([-/]) (?=[a-z])|(?<=\d) ([-/]) (?=\d)"), r"\1\2"),
    (re.compile(r"(?<=[a-z,:;(] )([-+]) (?=\d)"), r"\1"),
]


def joined(words: str) -> str:
    """Decoded words with the spaces taken out that a writer would not have set."""
    text = " ".join(words.split())
    for pattern, joint in JOINS:
        text = pattern.sub(joint, text)
    return text
