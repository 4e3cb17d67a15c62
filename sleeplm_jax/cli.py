"""The `sleeplm` command: thin and lazy. Nothing here starts a JAX backend before it is needed."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Optional

import tyro

from sleeplm_jax.errors import Interrupted, UserError

PathArgument = Annotated[Path, tyro.conf.Positional]


def simulate(out: Path, nights: int, hours: float = 8.0, seed: int = 0,
             workers: Optional[int] = None, people: Optional[str] = None,
             artefacts: bool = True) -> int:
    """Simulate a cohort of nights as EDF+ files with Profusion XML scoring.

    Args:
        out: Folder to write to; complete nights in it are kept.
        nights: How many nights, one simulated person each.
        hours: Length of a night.
        seed: Same seed, same nights.
        workers: Processes; default one a core.
        people: Kinds of sleeper, with commas between: healthy, insomnia, apnoea-mild,
            apnoea-moderate, apnoea-severe, older. Default: a mix of all.
        artefacts: Let electrodes come off, pop and hum, and the oximeter slip, on some nights.
    """
    from sleeplm_jax.recordings.simulator import simulate_cohort

    paths = simulate_cohort(
        out, nights, hours=hours, seed=seed, workers=workers, people=people, artefacts=artefacts
    )
    say(f"{len(paths)} simulated nights of {hours:g} h in {out}")
    return 0


def inspect(file: PathArgument, json: bool = False, montage: Optional[str] = None) -> int:
    """Show every signal of a recording and the canonical channels it resolves to.

    Args:
        file: EDF, EDF+ or BDF recording.
        json: Print JSON instead of tables.
        montage: Name or YAML file of a montage; default: chosen by the labels found.
    """
    from sleeplm_jax.recordings.prepare import inspect_recording

    found = inspect_recording(file, montage)
    if json:
        print_json(found)
    else:
        from sleeplm_jax.reports.terminal import print_inspection

        print_inspection(found)
    return 0


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
            a column `family` where people are related.
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

    chosen = SLEEPLM_CHANNELS if channels is None else tuple(channels.split(","))
    unknown = [name for name in chosen if name not in CANONICAL_CHANNELS]
    if unknown or len(set(chosen)) < len(chosen):
        raise UserError(
            "--channels", f"{channels!r} has unknown or repeated names",
            f"choose from {', '.join(CANONICAL_CHANNELS)}",
        )
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


def montage_report(paths: tyro.conf.Positional[list[Path]], cohort: Optional[str] = None,
                   montage: Optional[str] = None, json: bool = False) -> int:
    """Say in what share of recordings each channel is found, and which labels no row names.

    Reads headers only. A recording that cannot be read is one line; the exit status is then 1.

    Args:
        paths: Recordings, folders of them, or a JSON list of labels (form: docs/montages.md).
        cohort: Use this cohort's montage, or take this cohort of the list; default: by the labels.
        montage: Name or YAML file of a montage to use throughout.
        json: Print JSON instead of tables.
    """
    from sleeplm_jax.recordings.montage import load_montage
    from sleeplm_jax.recordings.montage_report import report_labels, report_recordings

    if not paths:
        raise UserError(
            "montage report", "names no recordings", "give files, folders or a JSON list of labels"
        )
    table = load_montage(montage) if montage is not None else None
    lists = [path for path in paths if path.suffix.lower() == ".json"]
    recordings = [path for path in paths if path not in lists]
    found = [one for path in lists for one in report_labels(path, cohort, table)]
    failures = []
    if recordings:
        more, failures = report_recordings(recordings, cohort, table)
        found += more
    if json:
        print_json([one.as_dict() for one in found])
    else:
        from sleeplm_jax.reports.montages import coverage

        for one in found:
            console().print(coverage(one.as_dict()))
    for failure in failures:
        print(f"not read: {failure}", file=sys.stderr)
    return 1 if failures else 0


def montage_check(file: PathArgument) -> int:
    """Check a montage of your own (YAML) and print what it holds.

    Args:
        file: YAML file, or the name of a montage that comes with the package.
    """
    from sleeplm_jax.recordings.montage import load_montage
    from sleeplm_jax.reports.montages import held

    montage = load_montage(file)
    console().print(held(montage))
    rows = sum(len(rows) for rows in montage.channels.values())
    say(f"{file}: {rows} rows for {len(montage.channels)} channels, no mistake found")
    return 0


def montage_list() -> int:
    """List the montages that come with the package."""
    from sleeplm_jax.recordings.montage import packaged_montages
    from sleeplm_jax.reports.montages import listed

    console().print(listed(packaged_montages()))
    return 0


def tokenizer(corpus: Path, vocab_size: int = 2048) -> int:
    """Train the corpus' sentencepiece tokenizer on the captions of its training split.

    Args:
        corpus: Folder that `prepare` wrote.
        vocab_size: At most this many tokens.
    """
    from sleeplm_jax.corpus.manifest import Corpus
    from sleeplm_jax.corpus.tokenizer import train_tokenizer

    made = train_tokenizer(Corpus.open(corpus), vocab_size=vocab_size)
    say(f"tokenizer of {made.vocab_size} tokens, hash {made.hash[:12]}, in {corpus}")
    return 0


def train(experiment: PathArgument) -> int:
    """Train the model that an experiment file describes; goes on where it stopped.

    Fields of the config follow the file: `sleeplm train experiments/quickstart.py
    --optimizer.learning-rate 3e-4`. `sleeplm train FILE --help` lists them all.

    Args:
        experiment: Python file with `get_config() -> RunConfig`.
    """
    return train_with([str(experiment)])


def train_with(arguments: list[str]) -> int:
    """`train`, with the overrides that follow the experiment file."""
    from sleeplm_jax.config import load_experiment

    default = load_experiment(arguments[0])
    config = tyro.cli(
        type(default), default=default, args=arguments[1:], prog=f"sleeplm train {arguments[0]}",
        description="Fields of the experiment, with the values this file gives them.",
    )
    from sleeplm_jax.training.loop import train as run

    say(f"done: {run(config, say)}")
    return 0


def evaluate(run: PathArgument, corpus: Path, split: str = "test", step: str = "best",
             max_samples: Optional[int] = None) -> int:
    """Measure a run on subjects it never saw; prints a table, writes RUN/evaluation.json.

    Other splits than test are written to RUN/evaluation-SPLIT.json.

    Args:
        run: Run folder.
        corpus: Corpus to evaluate on.
        split: train, val or test.
        step: best, latest, or a checkpointed step.
        max_samples: Evaluate at most this many epochs (seeded choice).
    """
    from sleeplm_jax.corpus.manifest import Corpus
    from sleeplm_jax.evaluation.suite import evaluate as measure
    from sleeplm_jax.evaluation.suite import result_path, table
    from sleeplm_jax.inference.run import Model

    model = Model.load(run, step if step in ("best", "latest") else whole_number(step))
    result = measure(model, Corpus.open(corpus), split, run, max_samples=max_samples)
    console().print(table(result))
    say(f"written to {result_path(run, split)}")
    return 0


def describe(run: PathArgument, night: PathArgument, scoring: Optional[Path] = None,
             out: Path = Path("report.html"), montage: Optional[str] = None,
             query: tuple[str, ...] = (), step: str = "best") -> int:
    """Describe one night in words and pictures: OUT and a PNG beside it.

    Args:
        run: Run folder.
        night: Recording.
        scoring: Scoring file; default: the one found beside the recording, if any.
        out: Where the HTML goes.
        montage: Name or YAML file of a montage; default: chosen by the labels found.
        query: Free-text queries whose similarity to the night is drawn over time.
        step: best, latest, or a checkpointed step.
    """
    if out.suffix.lower() not in (".html", ".htm") or out.is_dir():  # the picture is OUT's .png
        raise UserError(f"--out {out}", "names no HTML file", "give a name that ends in .html")
    from sleeplm_jax.inference.run import Model
    from sleeplm_jax.physiology.artefacts import mark_artefacts
    from sleeplm_jax.physiology.measure import measure_night
    from sleeplm_jax.recordings.prepare import prepare_night
    from sleeplm_jax.reports.night import SEEN, describe_night

    model = Model.load(run, step if step in ("best", "latest") else whole_number(step))
    say(f"reading {night.name}")
    prepared = prepare_night(
        night, scoring=scoring or "auto", montage=montage, spec=model.spec
    )
    for text in query:
        if not text.strip() or not text.isprintable():  # odd bytes of a terminal are no text
            raise UserError("--query", f"{ascii(text)} is no text", "give words, in UTF-8")
    queries = {"queries": list(query)} if query else {}
    say(f"measuring {len(prepared.signals):,} epochs")
    prepared = mark_artefacts(prepared)
    records = measure_night(prepared)
    found = describe_night(
        model, prepared, records, out, progress=quarters("reading with the model"), **queries
    )
    if found["seen"]:
        say(f"note: {SEEN[found['seen']]}")
    say(f"report in {out} and {out.with_suffix('.png')}")
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


def fetch(archive: Annotated[Optional[str], tyro.conf.Positional] = None,
          out: Optional[Path] = None, subjects: Optional[str] = None,
          mirror: Optional[str] = None, dry_run: bool = False, everything: bool = False,
          list: bool = False) -> int:
    """Bring an openly downloadable archive, or some of its subjects, into a folder.

    Every file is checked against the archive's own checksum. What was interrupted goes on with
    the same command. A file that cannot be had is said and the rest goes on; the exit status is
    then 1.

    Args:
        archive: Its name; --list tells which there are.
        out: Folder to write to; complete files in it are kept.
        subjects: Which, as "0-9" or "SN001,SN012"; --list says what they are; default: all.
        mirror: Address or folder that holds the archive in its own layout.
        dry_run: List the files and their bytes, download nothing.
        everything: Also what no night is prepared from, as test sets and second devices.
        list: Tell what can be fetched: size, licence, citation, what is not verified.
    """
    from sleeplm_jax.recordings import fetch as fetching

    if list:
        for line in fetching.describe_archives():
            say(line)
        return 0
    if archive is None:
        raise UserError("fetch", "no archive named", "name one; `sleeplm fetch --list` shows them")
    if dry_run:
        planned = fetching.plan(archive, subjects, mirror, everything)
        for line in fetching.describe_plan(planned):
            say(line)
        return 0
    if out is None:
        raise UserError("--out", "is missing", "name the folder to write to, or give --dry-run")
    say(f"reading what {archive} holds")
    done = fetching.fetch(
        archive, out, subjects, mirror, everything, say=say, bar=sys.stderr.isatty()
    )
    return 1 if done.failed else 0


COMMANDS = (simulate, fetch, inspect, prepare, quality, tokenizer, train, evaluate, describe)
# `sleeplm NAME COMMAND`: what is said of NAME, and its commands.
GROUPS = {
    "corpus": ("Check a corpus that `prepare` wrote.", {"check": corpus_check}),
    "montage": (
        "Check montages: which label is which channel, and how far they reach in a cohort.",
        {"report": montage_report, "check": montage_check, "list": montage_list},
    ),
}


def whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UserError("--step", f"is {text!r}", "give best, latest or a step") from None


def quarters(label: str):
    """A callback for shares done that says a line at every quarter."""
    said = [-1]

    def progress(share: float) -> None:
        quarter = int(4 * share + 1e-9)
        if quarter > said[0]:
            said[0] = quarter
            say(f"{label}: {25 * quarter} %")

    return progress


def console():
    from rich.console import Console

    return Console()


def say(line: str) -> None:
    print(line, flush=True)


def print_json(value) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False))


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit status (2 for a user's mistake, said in one line)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    # Loaded libraries log start-up trivia through absl and TensorFlow's names; users asked none.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    for stream in (sys.stdout, sys.stderr):  # an old locale must not turn µ into a failure
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        if arguments[:1] == ["train"] and len(arguments) > 1 and arguments[1][:1] != "-":
            return train_with(arguments[1:])
        app = tyro.extras.SubcommandApp()
        for command in COMMANDS:
            app.command(command)
        for name, (about, commands) in GROUPS.items():
            group = tyro.extras.SubcommandApp()
            for word, command in commands.items():
                group.command(command, name=word)
            app.command(group, name=name, help=about)
        return app.cli(
            args=arguments, prog="sleeplm",
            description="Pretraining and use of sleep-language models. Research software: "
            "it makes no diagnosis.",
        )
    except UserError as error:
        print(f"sleeplm: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("sleeplm: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except Interrupted as error:  # training saved its state before this
        return error.status
    except BrokenPipeError:  # `sleeplm inspect ... | head`: the reader has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except MemoryError:
        print("sleeplm: memory: is not enough for this; close other programs, give fewer --workers "
              "or a shorter recording", file=sys.stderr)
        return 2
    except OSError as error:  # what no command expected of the disk: full, read-only, not a folder
        where = error.filename if error.filename is not None else "the disk"
        finding = error.strerror or type(error).__name__
        mistake = UserError(
            os.fsdecode(where), f"cannot be read or written ({finding})",
            "check the path, its permissions and the space left",
        )
        print(f"sleeplm: {mistake}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
