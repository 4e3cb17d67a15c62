"""A training that starts from another run's parameters: what of them fits, and what is done to it.

A parameter is taken over where its path and shape are the same. Four kinds of axes are matched by
what they mean instead, so that the models need not be of one size: channels by their canonical
names, words by their pieces, places in a text by their index, and places in time by interpolation
(linear, between the centres of equal parts of the window). What is new there keeps its fresh draw.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from sleeplm_jax.checkpoints import Checkpoints
from sleeplm_jax.config import RunConfig
from sleeplm_jax.config.files import load_config
from sleeplm_jax.corpus.tokenizer import Tokenizer
from sleeplm_jax.errors import CheckpointError
from sleeplm_jax.models.build import create
from sleeplm_jax.parallel.rules import path_of
from sleeplm_jax.places import Place
from sleeplm_jax.training.step import Steps

# Path -> axes and what they count. The first that matches holds.
MEANINGS: tuple[tuple[str, dict[int, str]], ...] = (
    (r"encoder/stem/(filters|bias)", {0: "filters"}),
    (r"encoder/row_embedding", {0: "rows"}),
    (r"encoder/time_embedding", {0: "times"}),
    (r"encoder/position_embedding", {0: "rows", 1: "times"}),
    (r"encoder/channel_embedding", {0: "channels"}),
    (r"reconstruction/to_signal/(kernel|bias)", {-1: "signal"}),
    (r"text/token_embedding", {0: "words"}),
    (r"decoder/logits/(kernel|bias)", {-1: "words"}),
    (r"text/position_embedding", {0: "places"}),
)
SHARED_WORDS = 0.5  # of the new tokenizer's pieces: below it is another language


@dataclass(frozen=True)
class Taken:
    """What became of one parameter."""

    path: str  # of this run; of the other one where it was skipped
    what: str  # loaded, resized, drawn, skipped
    source: str = ""  # its path there, where that is another
    detail: str = ""


@dataclass(frozen=True)
class Names:
    """What the axes of a model's parameters count."""

    rows: tuple[str, ...]  # channels of each patch row, joined
    filters: tuple[str, ...]  # the same, or one set for all rows: ""
    channels: tuple[str, ...]
    samples: int  # of one channel, as the reconstruction writes them
    words: tuple[str | None, ...]  # pieces by id; then None for rows that no piece has
    text_length: int
    summary: bool  # whether a summary token has a place behind the text's

    @classmethod
    def of(cls, config: RunConfig, tokenizer: Tokenizer) -> Names:
        spec, size = config.model.spec, config.model.encoder.patch_channels
        rows = tuple(",".join(spec.channels[i : i + size])
                     for i in range(0, len(spec.channels), size))
        summary = config.objective.contrastive > 0 and config.model.text.summary in (
            "token", "shifted"
        )
        # Two of a kind share pieces; two kinds spell theirs differently.
        words = tuple(f"{tokenizer.kind} {piece}" for piece in tokenizer.pieces())
        empty = (None,) * (config.model.vocab_size - len(words))
        filters = ("",) if config.model.encoder.shared_filters else rows
        return cls(rows, filters, spec.channels, spec.samples, words + empty,
                   config.data.text_length, summary)


def warm_start(
    folder: Place, config: RunConfig, tokenizer: Tokenizer, steps: Steps, drawn: dict
) -> tuple[dict, list[Taken], str]:
    """`(parameters, what became of each, where they are from)`: the best parameters of the run in
    `folder` (their average, where it kept one) in `drawn`'s shapes and shardings.

    `config.start_from_map` renames; a name that becomes empty is left out. Raises CheckpointError
    when a parameter fits neither by shape nor by meaning, when the tokenizers share too little,
    and when nothing was taken over; ConfigError for a rename that nothing has.
    """
    if not (folder / "config.json").is_file() or not (folder / "checkpoints").is_dir():
        raise CheckpointError(folder, "is no run folder", "give --start-from a run's folder")
    there, words = load_config(folder / "config.json"), Tokenizer.load(folder)
    shapes = jax.eval_shape(lambda: create(there)[1])
    new, theirs = flat(drawn), flat(shapes)
    with Checkpoints(folder / "checkpoints") as saved:
        if (step := saved.best) is None:
            raise CheckpointError(folder, "has no checkpoint", "train it further first")
        if saved.about(step).get("tokenizer") != words.hash:
            raise CheckpointError(
                folder, f"has another tokenizer than its step {step}", "put the run's own back"
            )
        named = renamed(theirs, config.start_from_map, folder)
        plan = planned(
            {to: (path, theirs[path].shape) for path, to in named.items() if to},
            {path: x.shape for path, x in new.items()},
            Names.of(there, words), Names.of(config, tokenizer), folder,
        )
        old = flat(saved.restore_parameters(
            step, _abstract(shapes, {plan[p][0].source or p: p for p in plan}, steps)
        ))
    taken, report = {}, []
    for path, x in new.items():
        done, ways = plan.get(path, (Taken(path, "drawn"), None))
        report.append(done)
        source = old.get(done.source or path)
        if done.what == "drawn" or ways is None and source is None:
            taken[path] = x
        elif ways is None:
            taken[path] = source
        else:
            taken[path] = jax.jit(_fitted, out_shardings=x.sharding)(source, x, ways)
    report += [Taken(path, "skipped") for path, to in named.items() if to not in plan]
    if not any(row.what in ("loaded", "resized") for row in report):
        raise CheckpointError(
            folder, "holds nothing that this model has",
            "take over its config's model, or rename by --start-from-map",
        )
    return unflat(taken, drawn), report, f"{folder}, step {step:,}"


def renamed(old: Mapping[str, Any], maps: tuple[str, ...], where: object) -> dict[str, str]:
    """Each path of `old` and what it is called here: "" where it is left out."""
    names = {path: path for path in old}
    for given in maps:
        pattern, _, to = given.partition("=")
        found = [path for path, name in names.items() if name and re.match(pattern, name)]
        if not found:
            raise CheckpointError(
                where, f"has no parameter that --start-from-map {given!r} could rename",
                f"its parameters begin with {', '.join(sorted({p.split('/')[0] for p in old}))}",
            )
        for path in found:
            whole = re.fullmatch(pattern, names[path]) and not to
            names[path] = "" if whole else re.sub(f"^(?:{pattern})", to, names[path])
    twice = [name for name, count in Counter(n for n in names.values() if n).items() if count > 1]
    if twice:
        raise CheckpointError(
            where, f"has two parameters for {twice[0]} after --start-from-map", "correct the map"
        )
    return names


def planned(
    old: dict[str, tuple[str, tuple]], new: dict[str, tuple], there: Names, here: Names,
    where: object,
) -> dict[str, tuple[Taken, list | None]]:
    """Path -> (what is done, how each axis is fitted); of those that both models have.

    `old` holds source path and shape by the path here. How: per axis a pair of index arrays
    (new, old), or a matrix [new, old], or None.
    """
    plan = {}
    for path, shape in new.items():
        if path not in old:
            continue
        source, before = old[path]
        meaning = next((m for pattern, m in MEANINGS if re.fullmatch(pattern, path)), {})
        ways: list = [None] * len(shape)
        details, kept = [], True
        for axis, kind in meaning.items():
            if len(before) != len(shape):
                break
            way, detail, some = _way(kind, before[axis], shape[axis], there, here, where)
            ways[axis], kept = way, kept and some
            details += [detail] if detail else []
        fits = len(before) == len(shape) and all(
            a == b or way is not None for a, b, way in zip(before, shape, ways, strict=True)
        )
        if not fits:
            raise CheckpointError(
                where, f"holds another model than this config describes: {source} is "
                f"{list(before)}, here {list(shape)}",
                f"take over its settings from its config.json, or give --start-from-map "
                f"'{source}=' to draw it anew",
            )
        name = source if source != path else ""
        what = "drawn" if not kept else "resized" if details else "loaded"
        plan[path] = Taken(path, what, name, "; ".join(details)), ways if details else None
    return plan


def _way(kind: str, before: int, now: int, there: Names, here: Names, where: object):
    """(index arrays or matrix or None, what it does, whether anything is kept)."""
    if kind == "times":
        return (None, "", True) if before == now else (
            interpolation(before, now), f"{before} -> {now} places in time, linear", True
        )
    if kind == "places":
        return _places(there, here)
    if kind in ("rows", "filters", "channels"):
        return _by_name(getattr(there, kind), getattr(here, kind), "channels")
    if kind == "signal":
        way, detail, some = _by_name(there.channels, here.channels, "channels")
        if there.samples != here.samples or way is None:
            return None, "", True  # of another length it fits by no rule
        spread = np.arange(here.samples)
        return [(w[:, None] * here.samples + spread).reshape(-1) for w in way], detail, some
    if there.words == here.words:
        return None, "", True
    # Not bytes and marks, which all tokenizers have.
    ours = [w for w in here.words if w is not None and not re.fullmatch(r"\S+ <.*>", w)]
    known = set(there.words) & set(ours)
    if len(known) < SHARED_WORDS * len(ours):
        raise CheckpointError(
            where, "was trained with another tokenizer than the corpus has "
            f"({len(known):,} of its {len(ours):,} pieces are known there)",
            "give the corpus that run's (for CLIP's: `sleeplm tokenizer --bpe FILE`), or draw words"
            " anew: --start-from-map 'text/token_embedding=' 'decoder/logits/.*='",
        )
    return _by_name(there.words, here.words, "words")


def _by_name(before: tuple, now: tuple, of: str):
    if before == now:
        return None, "", True
    at = {name: i for i, name in enumerate(before) if name is not None}
    pairs = [(i, at[name]) for i, name in enumerate(now) if name in at]
    # Rows that no word has are trained too: never to be said.
    spare = [[i for i, name in enumerate(names) if name is None] for names in (now, before)]
    pairs += list(zip(*spare, strict=False))
    missing = [str(name) for name in now if name is not None and name not in at]
    named = sum(name is not None for name in now)
    detail = f"{named - len(missing):,} of {named:,} {of}"
    if missing:
        some = ", ".join(missing[:4]) + (", ..." if len(missing) > 4 else "")
        detail += f" (drawn: {some})" if of == "channels" else ""
    return _index(pairs), detail, bool(pairs)


def _places(there: Names, here: Names):
    if (there.text_length, there.summary) == (here.text_length, here.summary):
        return None, "", True
    both = min(there.text_length, here.text_length)
    pairs = [(i, i) for i in range(both)]
    if there.summary and here.summary:  # its place is the last, wherever that is
        pairs.append((here.text_length, there.text_length))
    return _index(pairs), f"the first {both} places in a text", True


def _index(pairs: list) -> tuple[np.ndarray, np.ndarray]:
    both = np.array(pairs, np.int32).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def interpolation(before: int, now: int) -> np.ndarray:
    """`f32 [now, before]`: values at the centres of `now` equal parts of a window from those of
    `before` parts, linear between centres and constant beyond the outermost."""
    at = np.clip((np.arange(now) + 0.5) * before / now - 0.5, 0, before - 1)
    low = np.minimum(at.astype(int), max(before - 2, 0))
    high = np.minimum(low + 1, before - 1)
    matrix = np.zeros((now, before), np.float32)
    np.add.at(matrix, (np.arange(now), low), 1 - (at - low))
    np.add.at(matrix, (np.arange(now), high), at - low)
    return matrix


def _fitted(old: jax.Array, drawn: jax.Array, ways: list) -> jax.Array:
    """`old`'s values in a fresh draw, axis by axis."""
    places = []
    for axis, way in enumerate(ways):
        if isinstance(way, (tuple, list)):
            old = jnp.take(old, way[1], axis)
            places.append(way[0])
        else:
            if way is not None:
                old = jnp.moveaxis(jnp.tensordot(way, old, (1, axis)), 0, axis)
            places.append(np.arange(drawn.shape[axis]))
    return drawn.at[jnp.ix_(*places)].set(old.astype(drawn.dtype))


def _abstract(shapes: dict, used: dict[str, str], steps: Steps) -> dict:
    """What to restore the other run's parameters into: as they lie here, where they fit."""
    here = flat(steps.shardings["parameters"])
    ours = flat(steps.abstract["parameters"])
    whole = NamedSharding(steps.mesh, PartitionSpec())

    def one(key_path, x):
        path = used.get(path_of(key_path))
        same = path in ours and ours[path].shape == x.shape
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here[path] if same else whole)

    return jax.tree_util.tree_map_with_path(one, shapes)


def lines(report: list[Taken]) -> list[str]:
    """The report as a person reads it: what happened alike under one name is one line."""
    groups: dict[tuple, list[Taken]] = {}
    for row in report:
        top = "/".join(row.path.split("/")[: 3 if row.detail or row.source else 1])
        source = "/".join(row.source.split("/")[:3])
        groups.setdefault((row.what, top, row.detail, source), []).append(row)
    found = []
    for (what, top, detail, source), rows in sorted(groups.items()):
        count = f"{len(rows)} parameter{'s' * (len(rows) > 1)}"
        found.append(f"{what:<8} {top:<34} {count}" + (f", from {source}" if source else "")
                     + (f": {detail}" if detail else ""))
    return found


def as_json(report: list[Taken], source: str) -> dict:
    return {"from": source, "parameters": [asdict(row) for row in report]}


def flat(tree: Any) -> dict[str, Any]:
    return {path_of(path): x for path, x in jax.tree_util.tree_leaves_with_path(tree)}


def unflat(leaves: dict[str, Any], like: Any) -> Any:
    return jax.tree_util.tree_map_with_path(lambda path, _: leaves[path_of(path)], like)
