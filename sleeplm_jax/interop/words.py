"""A tokenizer as plain JSON, from which modeling_sleeplm.py reads and writes text unaided."""

from __future__ import annotations

from sleeplm_jax.corpus.clip_bpe import JOINS, WORD_END, ClipTokenizer, byte_letters, read_merges
from sleeplm_jax.corpus.tokenizer import Tokenizer


def vocabulary(tokenizer: Tokenizer) -> dict:
    """What `modeling_sleeplm.Vocabulary` takes.

    pieces: every id's text; merged: the pieces that merging makes, the first to merge first; marks:
    ids that no text holds; bytes: `[byte, id]` of the pieces that spell letters without a piece.
    """
    about = {"kind": tokenizer.kind, "pad": tokenizer.pad_id, "bos": tokenizer.bos_id,
             "eos": tokenizer.eos_id}
    if isinstance(tokenizer, ClipTokenizer):
        letters = list(byte_letters().values())
        merged = ["".join(pair) for pair in read_merges(tokenizer.model)]
        pieces = [*letters, *(letter + WORD_END for letter in letters), *merged, "<s>", "</s>"]
        joins = [[pattern.pattern, joint] for pattern, joint in JOINS]
        return about | {
            "pieces": pieces, "merged": merged, "joins": joins, "bytes": [],
            "marks": [tokenizer.bos_id, tokenizer.eos_id],
        }
    model = tokenizer.processor
    ids = range(model.get_piece_size())
    spelled = [i for i in ids if model.is_byte(i)]
    marks = [i for i in ids if model.is_control(i) or model.is_unknown(i)]
    others = {*spelled, *marks}
    words = sorted((i for i in ids if i not in others), key=lambda i: -model.get_score(i))
    return about | {
        "pieces": [model.id_to_piece(i) for i in ids],
        "merged": [model.id_to_piece(i) for i in words],
        "joins": [], "marks": marks,
        "bytes": [[int(model.id_to_piece(i)[3:5], 16), i] for i in spelled],
    }
