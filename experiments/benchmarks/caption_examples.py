"""Twenty real epochs and six simulated ones with captions, to be judged: docs/caption_examples.md.

    python experiments/benchmarks/caption_examples.py --psg PSG

PSG is a folder with pieces of public recordings (`ucddb_eeg/`, `rsleep_nox/`,
`edfio_sleepedf_short/`, `slpdb_multimodal/`). Writes the page and `images/captions/*.png` below
--out (docs), the same bytes for the same wordings. Takes half a minute on one core.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sleeplm_jax.config import CAPTION_KINDS, STAGES
from sleeplm_jax.physiology.artefacts import mark_artefacts
from sleeplm_jax.physiology.measure import measure_night
from sleeplm_jax.recordings.night import Night
from sleeplm_jax.recordings.prepare import prepare_night
from sleeplm_jax.recordings.simulator import simulate_night
from sleeplm_jax.reports.caption_page import epoch_captions, epoch_picture
from sleeplm_jax.reports.palette import STAGE_NAMES

DPI, COLOURS = 80, 20
MOST_BYTES, MOST_IN_ALL = 60_000, 1_000_000
SEED = 4

HEAD = """# Captions of twenty real epochs, and of six simulated ones

For a person to judge: do the sentences say what the pictures show? Made by

```bash
python experiments/benchmarks/caption_examples.py --psg PSG
```

from pieces of public recordings, which are not part of this project. Captions say what an input
of SleepLM's ten channels shows ([grounding](captions.md)), in wordings drawn by a fixed seed; a
kind without anything to say is left out. `context` and `night` have a [page](night_captions.md)
of their own. A channel in grey is not usable in that epoch, by the rules that the captions
follow; a "stand-in" (* in the pictures) is a derivation in place of a missing one. What is told
"of usual" is relative to the piece at hand, which here is often a few minutes and no night.

**Sources.**

- UCDDB: St. Vincent's University Hospital / University College Dublin Sleep Apnea Database,
  PhysioNet, ODC-By 1.0; night ucddb018, one EEG derivation whose amplitude is not known.
- NOX: two minutes of a clinical NOX A1 recording from the R package rsleep (boupetch/rsleep, MIT).
- Sleep-EDF: the first five minutes of SC4001, Sleep-EDF Database Expanded (Kemp et al. 2000),
  PhysioNet, ODC-By 1.0, as kept by edfio (the-siesta-group/edfio, Apache-2.0), with that night's
  hypnogram. Chin EMG and airflow come at 1 Hz there.
- slpdb: one minute of slp41, MIT-BIH Polysomnographic Database (Ichimaru and Moody 1999),
  PhysioNet, ODC-By 1.0.

**What these real pieces lack.** None of them holds scored events beside signals, so none is shaded
here. UCDDB 018 is one EEG alone, of unknown amplitude: bands, and no waves. Sleep-EDF's five
minutes are of one person awake. Only NOX has eyes, belts, flow and oxygen, and nobody staged it.
Events, desaturations, spindles, K complexes and REM sleep are therefore shown on six simulated
epochs at the end, which are called so.
"""

SIMULATED = """# Simulated epochs

From a simulated night of a person with severe apnoea: made by this project, so that they show
what a caption says of events and waves, and nothing about real sleep."""


@dataclass(frozen=True)
class Piece:
    """A recording, its scoring, and which of its epochs are shown."""

    key: str
    title: str
    file: str
    scoring: str | None
    epochs: object  # Night -> [(epoch, why)]


def varied(night: Night) -> list[tuple[int, str]]:
    """The middle of each stage's longest run, and three transitions."""
    stages, out = np.asarray(night.stages, int), []
    starts = np.flatnonzero(np.r_[True, stages[1:] != stages[:-1]])
    ends = np.r_[starts[1:], len(stages)]
    for code, name in enumerate(STAGES):
        runs = [(b - a, a) for a, b in zip(starts, ends) if stages[a] == code]
        length, first = max(runs, key=lambda run: (run[0], -run[1]))
        out.append((int(first + length // 2), f"in the longest {STAGE_NAMES[name]}"))
    for before, after in ((0, 1), (2, 3), (2, 4)):
        found = np.flatnonzero((stages[:-1] == before) & (stages[1:] == after)) + 1
        names = [STAGE_NAMES[STAGES[code]] for code in (before, after)]
        if len(found):
            out.append((int(found[0]), f"the first change from {names[0]} to {names[1]}"))
    return sorted(out)


def eventful(night: Night, records: list[dict]) -> list[tuple[int, str]]:
    """Of a simulated night: an apnoea with a desaturation, a hypopnoea that ends in an arousal, and
    one epoch of each of four stages."""

    def first(wanted) -> int:
        return next(epoch for epoch, record in enumerate(records) if wanted(record))

    def kinds(record) -> set[str]:
        return {event["kind"] for event in record["events"]}

    def most(stage: str, feature: str) -> int:
        def count(epoch: int) -> float:
            return sum(m["value"] for m in records[epoch]["measurements"]
                       if m["feature"] == feature)

        of = [e for e, record in enumerate(records) if record["stage"] == stage]
        return max(of, key=lambda epoch: (count(epoch), -epoch))

    chosen = [
        (first(lambda r: kinds(r) >= {"obstructive_apnea", "desaturation"}), "apnoea"),
        (first(lambda r: kinds(r) >= {"hypopnea", "arousal"}), "hypopnoea and arousal"),
        (most("W", "blink_count"), "wake with most blinks"),
        (most("N2", "spindle_count"), "N2 with most spindles"),
        (most("N3", "slow_wave_share"), "N3 with most slow waves"),
        (most("R", "rapid_eye_movement_count"), "REM with most eye movements"),
    ]
    return sorted(chosen)


def these(*epochs: int):
    return lambda night: [(epoch, "") for epoch in epochs]


PIECES = (
    Piece("ucddb018", "UCDDB, ucddb018", "ucddb_eeg/ucddb018_eeg.edf", "auto", varied),
    Piece("nox", "NOX A1, clinical recording", "rsleep_nox/subject1.edf", None, these(0, 1, 2, 3)),
    Piece("sleepedf", "Sleep-EDF, SC4001", "edfio_sleepedf_short/short_psg.edf",
          "edfio_sleepedf_short/SC4001EC-Hypnogram.edf", these(0, 2, 4, 5, 7, 9)),
    Piece("slp41", "slpdb, slp41", "slpdb_multimodal/slp41_60s.edf", None, these(0, 1)),
)  # fmt: skip


def write_page(psg: Path, out: Path) -> list[Path]:
    """Writes the page and its pictures below `out`; returns the pictures."""
    pictures = out / "images" / "captions"
    pictures.mkdir(parents=True, exist_ok=True)
    for old in pictures.glob("*.png"):
        old.unlink()
    lines, made = [HEAD], []

    def show(key: str, name: str, night: Night, records: list[dict], epochs) -> None:
        for epoch, why in epochs:
            number = len(made) + 1
            told = epoch_captions(night, records, epoch, seed=SEED)
            title = f"{name}, epoch {epoch}"
            png = epoch_picture(night, epoch, records[epoch], [], title, DPI, COLOURS)
            path = pictures / f"{number:02d}_{key}_{epoch}.png"
            path.write_bytes(png)
            made.append(path)
            lines.append(f"## {number}. {title}" + (f" ({why})" if why else ""))
            lines.append(f"![signals of {title}](images/captions/{path.name})")
            first = not any(f"_{key}_" in earlier.name for earlier in made[:-1])
            wanted = (*CAPTION_KINDS, "context", *(["night"] if first else []))
            rows = [f"| `{kind}` | {text} |" for kind, text in told if kind in wanted]
            lines.append("\n".join(["| kind | caption |", "|---|---|", *rows]))

    for piece in PIECES:
        scoring = piece.scoring if piece.scoring in (None, "auto") else psg / piece.scoring
        night = mark_artefacts(prepare_night(psg / piece.file, scoring=scoring))
        show(piece.key, piece.title, night, measure_night(night), piece.epochs(night))
    with tempfile.TemporaryDirectory() as folder:
        path = simulate_night(folder, 3, 1.5, 11, people=("apnoea-severe",))
        night = mark_artefacts(prepare_night(path))
    lines.append(SIMULATED)
    records = measure_night(night)
    show("simulated", "Simulated night", night, records, eventful(night, records))
    (out / "caption_examples.md").write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--psg", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[2] / "docs")
    options = parser.parse_args()
    made = write_page(options.psg, options.out)
    sizes = [path.stat().st_size for path in made]
    print(f"{len(made)} epochs, pictures of {max(sizes) / 1e3:.0f} kB at most, "
          f"{sum(sizes) / 1e3:.0f} kB in all: {options.out / 'caption_examples.md'}")
    if max(sizes) > MOST_BYTES or sum(sizes) > MOST_IN_ALL:
        raise SystemExit("too large: lower DPI or COLOURS")


if __name__ == "__main__":
    main()
