"""Commands about corpora: prepare, quality, corpus check, tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from sleeplm_jax.cli.saying import PathArgument, console, say
from sleeplm_jax.errors import UserError


def prepare(recordings: list[Path], out: Path, cohort: Optional[str] = None,
            montage: Optional[str] = None, channels: Optional[str] = None,
            workers: Optional[int] = None, splits: Optional[Path] = None, seed: int = 0,
            subjects: Optional[Path] = None, trim: str = "lights",
            trim_margin: Optional[float] = None, stratify: tuple[str, ...] = (),
            runner: str = "pool", beam_flags: str = "", dry_run: bool = False,
            selection: Optional[Path] = None) -> int:
    """Turn recordings and their scoring into a corpus of samples, split by subject.

    A recording that cannot be used is listed in OUT/failures.csv and the rest goes on; the exit
    status is then 1. A second call redoes only what changed.

    Args:
        recordings: Folders (searched for EDF and BDF) or files.
        out: The corpus folder, or an address as gs://bucket/folder or s3://bucket/folder.
        cohort: Montage and naming rules to use; default: recognised from the labels.
        montage: YAML file of a montage of your own.
        channels: What a sample holds, as "EOG-L,EOG-R,C3"; default: SleepLM's ten.
        workers: Processes; default one a core.
        splits: CSV `subject,split` (train, val, test) instead of the seeded 80/10/10 split.
        seed: Of the split.
        subjects: CSV `recording,subject` (recording: file stem) saying whose nights are whose, with
            a column `family` where people are related, and age, sex, bmi, night, flags if known.
        trim: What becomes the night: lights (off to on, where the scoring states them), sleep
            (the first to the last epoch asleep: recordings of a day) or none (everything).
        trim_margin: Minutes kept on either side; default: 0 for lights, 30 for sleep.
        stratify: What the splits share out evenly: cohort, age, sex, n3 (any of them).
        runner: pool (processes of this machine) or beam (Apache Beam).
        beam_flags: Flags of the Beam pipeline, as "--runner=FlinkRunner --flink_master=HOST:8081".
        dry_run: Say what would be done, and why, and write nothing.
        selection: JSON naming the recordings to keep and who selected them (docs/quality.md).
    """
    from sleeplm_jax.config import CANONICAL_CHANNELS, SLEEPLM_CHANNELS, SignalSpec
    from sleeplm_jax.corpus.prepare import prepare_corpus
    from sleeplm_jax.recordings.trim import Trim

    chosen = SLEEPLM_CHANNELS
    if channels is not None:
        spelt = {name.casefold(): name for name in CANONICAL_CHANNELS}
        asked = [name.strip() for name in channels.split(",")]
        unknown = [name for name in asked if name.casefold() not in spelt]
        twice = [name for name in asked if [a.casefold() for a in asked].count(name.casefold()) > 1]
        if unknown or twice:
            what = f"unknown {', '.join(map(repr, unknown))}" if unknown else f"{twice[0]!r} twice"
            raise UserError(
                "--channels", f"{channels!r} has {what}",
                f"choose from {', '.join(CANONICAL_CHANNELS)}",
            )
        chosen = tuple(spelt[name.casefold()] for name in asked)
    if dry_run:
        from sleeplm_jax.corpus.plan import plan, told
        from sleeplm_jax.corpus.prepare import survey

        seen = survey(
            recordings, out, cohort, SignalSpec(channels=chosen), montage, subjects,
            Trim(trim, trim_margin), selection,
        )
        say("\n".join(told(plan(seen, workers, progress=True))))
        return 0
    result = prepare_corpus(
        recordings, out, cohort=cohort, montage=montage, workers=workers, splits_file=splits,
        seed=seed, spec=SignalSpec(channels=chosen), subjects_file=subjects,
        trim=Trim(trim, trim_margin), stratify=stratify, runner=runner, beam_flags=beam_flags,
        selection_file=selection,
    )
    return 1 if result.failed else 0


def quality(corpus: PathArgument, out: Path = Path("cohort.html"),
            records: Optional[Path] = None) -> int:
    """Show how good the nights of a corpus are: channels, artefacts, staging, flags, worst nights.

    Args:
        corpus: Folder that `prepare` wrote.
        out: Where the HTML page goes.
        records: Folder for one JSON record per night.
    """
    if out.suffix.lower() not in (".html", ".htm") or out.is_dir():
        raise UserError(f"--out {out}", "names no HTML file", "give a name that ends in .html")
    from sleeplm_jax.reports.cohort import cohort_page

    found = cohort_page(corpus, out, records)
    for cohort, staging in found["staging"].items():
        say(f"{cohort}: staging {staging['verdict']}")
        for finding in staging["findings"]:
            say(f"  {finding}")
    say(f"{found['nights']} nights, {found['flagged']} with flags: {out}")
    return 0


def corpus_check(corpus: PathArgument) -> int:
    """Prove that a corpus does not leak: reads every sample of it; exit status 1 where it does.

    Looks for people, families, whole or cut nights in two splits, for a tokenizer that read more
    than the train split, for statistics that nights share, and for damage.

    Args:
        corpus: Folder or address that `prepare` wrote.
    """
    from sleeplm_jax.corpus.check import check_corpus
    from sleeplm_jax.reports.terminal import checks

    found = check_corpus(corpus)
    console().print(checks(found))
    for check in found:
        for line in check.findings:
            say(f"{check.name}: {line}")
    return 1 if any(check.findings for check in found) else 0


def tokenizer(corpus: Path, vocab_size: int = 2048, bpe: Optional[Path] = None) -> int:
    """Train the corpus' sentencepiece tokenizer on the captions of its training split.

    Args:
        corpus: Folder that `prepare` wrote.
        vocab_size: At most this many tokens.
        bpe: Take CLIP's tokenizer instead, of this bpe_simple_vocab_16e6.txt.gz: what training
            further from SleepLM's weights needs.
    """
    from sleeplm_jax.corpus.clip_bpe import clip_tokenizer
    from sleeplm_jax.corpus.manifest import Corpus
    from sleeplm_jax.corpus.tokenizer import train_tokenizer

    opened = Corpus.open(corpus)
    if bpe is None:
        made = train_tokenizer(opened, vocab_size=vocab_size)
    else:
        made = clip_tokenizer(bpe, opened.hash)
        made.save(opened.path)
    say(f"tokenizer of {made.vocab_size} tokens, hash {made.hash[:12]}, in {corpus}")
    return 0
