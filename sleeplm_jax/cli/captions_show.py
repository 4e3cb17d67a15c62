"""Commands about captions: show one epoch's, let a language model reword a corpus'."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Optional

from sleeplm_jax.cli.saying import PathArgument, print_json, quarters, say
from sleeplm_jax.errors import UserError


def captions_show(file: PathArgument, epoch: int, style: str = "default",
                  out: Optional[Path] = None, scoring: Optional[Path] = None,
                  montage: Optional[str] = None, trim: str = "lights", seed: int = 0,
                  ungrounded: bool = False) -> int:
    """Print what is measured in one epoch and its sentences of every kind; draw its signals.

    Args:
        file: Recording.
        epoch: Which 30-s epoch, from 0, of what --trim keeps (as in a corpus).
        style: Style of the sentences of the epoch.
        out: PNG to write: all channels, the scored events, the sentences.
        scoring: Scoring file; default: the one found beside the recording, if any.
        montage: Name or YAML file of a montage; default: chosen by the labels found.
        trim: What of the recording is the night: lights, sleep or none (see `prepare`).
        seed: Of the wordings.
        ungrounded: Say also what SleepLM's input does not show, of windows as of the epoch.
    """
    if out is not None and (out.suffix.lower() != ".png" or out.is_dir()):
        raise UserError(f"--out {out}", "names no PNG file", "give a name that ends in .png")
    if seed < 0:
        raise UserError("--seed", f"is {seed}", "give 0 or more")
    from sleeplm_jax.files import write_atomically
    from sleeplm_jax.physiology.artefacts import mark_artefacts
    from sleeplm_jax.physiology.measure import measure_night
    from sleeplm_jax.recordings.prepare import prepare_night
    from sleeplm_jax.recordings.trim import Trim
    from sleeplm_jax.reports.caption_page import epoch_captions, epoch_picture

    night = prepare_night(file, scoring=scoring or "auto", montage=montage, trim=Trim(trim))
    if not 0 <= epoch < len(night.stages):
        raise UserError(
            f"--epoch {epoch}", f"{file.name} has {len(night.stages)} epochs",
            f"give 0 to {len(night.stages) - 1}",
        )
    night = mark_artefacts(night)
    records = measure_night(night)
    told = epoch_captions(night, records, epoch, style, seed, ungrounded)
    print_json(records[epoch])
    for heading, text in told:
        say(f"{heading}: {text}")
    if out is not None:
        write_atomically(out, epoch_picture(night, epoch, records[epoch], told))
        say(f"picture in {out}")
    return 0


def captions_rewrite(corpus: PathArgument, url: str, model: str, out: Path,
                     samples: Optional[int] = None, split: str = "train",
                     key_env: Optional[str] = None, style: str = "default", seed: int = 0,
                     cache: Optional[Path] = None, timeout: float = 30.0, workers: int = 4,
                     ungrounded: bool = False) -> int:
    """Let a language model reword captions: sentences, and nothing else, are sent to --url.

    Every answer is checked; one that loses or invents a number, unit, stage, event or channel is
    refused and the template's sentence kept. OUT gets one JSON line a caption: recording, epoch,
    kind, original, rewritten, accepted, why_not, model. Answers are kept: a second call asks only
    what is new. The exit status is 1 where no answer at all came.

    Args:
        corpus: Folder that `prepare` wrote.
        url: OpenAI-compatible service, as https://host/v1.
        model: Name of the model there.
        out: JSONL file to write.
        samples: How many epochs, drawn by --seed; default: all of the split.
        split: train, val or test.
        key_env: Name of the environment variable that holds the key; default: no key.
        style: Style of the template sentences.
        seed: Of the choice and the wordings.
        cache: Folder of the answers; default: OUT with the suffix .cache.
        timeout: Seconds that one request may take.
        workers: Requests at a time.
        ungrounded: Reword also what the corpus' input does not show.
    """
    if key_env is not None and not os.environ.get(key_env):
        raise UserError("--key-env", f"{key_env} is not set", "export the key under this name")
    if out.is_dir():
        raise UserError(f"--out {out}", "is a folder", "name a file")
    for name, value in (("samples", samples), ("timeout", timeout), ("workers", workers)):
        if value is not None and not value > 0:
            raise UserError(f"--{name}", f"is {value:g}", "give a number above 0")
    if seed < 0:
        raise UserError("--seed", f"is {seed}", "give 0 or more")
    import numpy as np

    from sleeplm_jax.captions.render import render
    from sleeplm_jax.captions.rewrite import Rewriter, rows, summary
    from sleeplm_jax.config import CAPTION_KINDS
    from sleeplm_jax.corpus.manifest import Corpus
    from sleeplm_jax.files import write_atomically

    rewriter = Rewriter(
        url, model, cache or out.with_suffix(".cache"),
        os.environ[key_env] if key_env else None, timeout_s=timeout, workers=workers,
    )
    opened = Corpus.open(corpus)
    source = opened.source(split)
    chosen = np.arange(len(source))
    if samples is not None and samples < len(source):
        chosen = np.sort(np.random.default_rng(seed).permutation(len(source))[:samples])
    about, sentences = [], []
    spec = None if ungrounded else opened.spec
    for position in chosen.tolist():
        sample = source[position]
        for number, kind in enumerate(CAPTION_KINDS):
            rng = np.random.default_rng([seed, position, number])
            text = render(sample["record"], kind, rng, style, spec)
            if text is not None:
                about.append({"recording": sample["recording"], "epoch": sample["epoch"],
                              "kind": kind})
                sentences.append(text)
    say(rewriter.notice())
    say(f"{len(sentences):,} captions of {len(chosen):,} epochs")
    share = quarters("rewriting")
    unique = max(len(set(sentences)), 1)
    results = rewriter.rewrite_all(sentences, lambda done: share(done / unique))
    lines = (json.dumps(row, ensure_ascii=False) for row in rows(results, about, model))
    write_atomically(out, "".join(f"{line}\n" for line in lines).encode())
    for line in summary(results):
        say(line)
    say(f"{rewriter.asked:,} answers of {model} at {rewriter.host}, {rewriter.found:,} from the "
        f"cache; written to {out}")
    return 1 if sentences and not any(one.rewritten for one in results) else 0
