"""The page of a cohort: what its nights hold, how good they are, and which to look at first.

Made of the nights' quality records alone (physiology.quality), so it costs no signal. One HTML
file, pictures inside, nothing loaded, nobody named.
"""

from __future__ import annotations

import base64
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sleeplm_jax import __version__
from sleeplm_jax.config import ARTEFACTS, CANONICAL_CHANNELS
from sleeplm_jax.corpus.jobs import read_rows
from sleeplm_jax.corpus.manifest import read_manifest
from sleeplm_jax.errors import CorpusError
from sleeplm_jax.files import write_atomically, write_json
from sleeplm_jax.physiology.sanity import LEAST_EPOCHS, judge
from sleeplm_jax.places import file_states, place
from sleeplm_jax.reports import cohort_figures
from sleeplm_jax.reports.palette import HYPNOGRAM_ORDER

WORST = 15  # nights listed
# Flags that put the labels or the channels themselves in doubt; the others describe.
SERIOUS = (
    "staging_doubtful", "alignment_doubtful", "inverted_breathing", "implausible_amplitude",
    "implausible_oximetry", "truncated", "many_flat", "many_lead_off", "many_dropout",
    "many_clipped", "many_movement", "many_pop", "record_times_jump", "scoring_shifted",
)
NEEDED = {"EEG": ("C3", "C4", "F3", "F4", "O1", "O2"), "EOG": ("EOG-L", "EOG-R"), "chin": ("EMG",)}


def cohort_page(corpus: Path | str, out: Path | str, records: Path | str | None = None) -> dict:
    """Writes the page of a corpus' nights to `out`; returns its main figures, JSON-able.

    {"nights", "flagged", "staging": {cohort: judge(...)}, "flags": {name: nights}, "worst":
    [{"night", "why"}]}. With `records`, also each night's record as `<records>/<night>.json`.
    Raises CorpusError where there is no corpus, or the notes of its nights lack a record.
    """
    nights = read_records(corpus)
    if records is not None:
        folder = Path(records)
        folder.mkdir(parents=True, exist_ok=True)
        for name, record in nights.items():
            write_json(folder / f"{name}.json", record)
    cohorts: dict[str, list[dict]] = defaultdict(list)
    for record in nights.values():
        cohorts[record["cohort"]].append(record)
    staging = {
        name: judge([record["staging"] for record in members])
        for name, members in sorted(cohorts.items())
    }
    flags = Counter(
        name for record in nights.values() for name in {_name(flag) for flag in record["flags"]}
    )
    worst = worst_nights(nights)
    found = {
        "nights": len(nights),
        "flagged": sum(bool(record["flags"]) for record in nights.values()),
        "staging": staging, "flags": dict(flags.most_common()), "worst": worst,
    }
    write_atomically(Path(out), _page(nights, cohorts, found).encode())
    return found


def read_records(corpus: Path | str) -> dict[str, dict]:
    """{night: quality record} of a corpus, in the order of its manifest.

    Raises CorpusError where there is no corpus or a record is missing.
    """
    where = place(corpus)
    wanted = [night["night"] for night in read_manifest(where)["nights"]]
    folder = where / "nights"
    rows = read_rows(folder, wanted, file_states(folder))
    absent = [night for night in wanted if "quality" not in rows.get(night, {})]
    if absent:
        raise CorpusError(
            corpus, f"has no quality record of {len(absent)} of {len(wanted)} nights "
            f"({', '.join(absent[:3])})", "run `sleeplm prepare` again with the same --out",
        )
    return {night: rows[night]["quality"] for night in wanted}


def worst_nights(nights: dict[str, dict], most: int = WORST) -> list[dict]:
    """The nights to look at first, [{"night", "cohort", "serious", "unmeasured", "why"}].

    By the number of serious flags and missing kinds of channel (EEG, EOG, chin), then by the share
    of the found channels that cannot be measured. Nights with neither are not listed.
    """
    rows = []
    for name, record in nights.items():
        why = [flag for flag in record["flags"] if _name(flag) in SERIOUS]
        found = [c for c, about in record["channels"].items() if about is not None]
        why += [f"no {kind}" for kind, names in NEEDED.items() if not set(names) & set(found)]
        shares = {c: record["channels"][c]["unmeasured"] for c in found}
        lost = float(np.mean(list(shares.values()))) if shares else 0.0
        bad = sorted((c for c in shares if shares[c] >= 0.02), key=lambda c: -shares[c])[:4]
        if not why and lost < 0.01:
            continue
        if bad:
            why.append("not measured: " + ", ".join(f"{c} {100 * shares[c]:.0f} %" for c in bad))
        serious = len([w for w in why if not w.startswith("not measured")])
        rows.append({"night": name, "cohort": record["cohort"], "serious": serious,
                     "unmeasured": round(lost, 4), "why": why})
    return sorted(rows, key=lambda row: (-row["serious"], -row["unmeasured"], row["night"]))[:most]


def _name(flag: str) -> str:
    """A flag's name, what stands before its colon."""
    return flag.split(":", 1)[0].strip()


def _page(nights: dict[str, dict], cohorts: dict[str, list[dict]], found: dict) -> str:
    from jinja2 import Environment, PackageLoader

    environment = Environment(
        loader=PackageLoader("sleeplm_jax.reports"), autoescape=True, trim_blocks=True,
        lstrip_blocks=True,
    )
    records = list(nights.values())
    pictures: dict[str, Callable] = {
        "channels": cohort_figures.channels, "artefacts": cohort_figures.artefacts,
        "amplitudes": cohort_figures.amplitudes, "stages": cohort_figures.stages,
        "delta": cohort_figures.delta, "statistics": cohort_figures.statistics,
    }
    images = {}
    for name, draw in pictures.items():
        made = draw(nights)
        images[name] = base64.b64encode(made).decode() if made is not None else None
    flags = [
        {"name": name, "nights": count, "share": count / len(records),
         "serious": name in SERIOUS, "example": _example(records, name)}
        for name, count in found["flags"].items()
    ]
    hours = sum(r["epochs"] * r["epoch_s"] for r in records) / 3600
    return environment.get_template("cohort.html").render(
        nights=len(records), hours=hours, flagged=found["flagged"],
        cohorts={name: len(members) for name, members in sorted(cohorts.items())},
        simulated=sum(record["simulated"] for record in records),
        scored=sum(any(n for s, n in r["stages"].items() if s != "unscored") for r in records),
        staging=found["staging"], least=LEAST_EPOCHS, flags=flags, worst=found["worst"],
        images=images, sources=_sources(records), artefacts=ARTEFACTS,
        statistics=_statistics(records), version=__version__, order=HYPNOGRAM_ORDER,
        polarity=_polarity(records),
    )


def _example(records: list[dict], name: str) -> str:
    return next(flag for r in records for flag in r["flags"] if _name(flag) == name)


def _sources(records: list[dict]) -> list[dict]:
    """Per channel: in how many nights, from what, at which rates, in which units."""
    rows = []
    for channel in CANONICAL_CHANNELS:
        there = [r["channels"].get(channel) for r in records]
        there = [about for about in there if about is not None]
        if not there:
            continue
        rows.append({
            "channel": channel, "nights": len(there), "share": len(there) / len(records),
            "stand_in": sum(about["stand_in"] for about in there),
            "sources": _counted(about["source"] for about in there),
            "rates": _counted(f"{about['rate']:g}" for about in there),
            "units": _counted(about["file_unit"] or "blank" for about in there),
            "unmeasured": 100 * float(np.mean([about["unmeasured"] for about in there])),
        })
    return rows


def _counted(values, most: int = 3) -> str:
    counts = Counter(values).most_common()
    shown = ", ".join(f"{value} ({n})" if len(counts) > 1 else f"{value}"
                      for value, n in counts[:most])
    return shown + (f", {len(counts) - most} more" if len(counts) > most else "")


def _polarity(records: list[dict]) -> list[dict]:
    """How many nights have their ECG and breathing signals which way up."""
    rows = []
    counts = Counter(record["polarity"]["ecg"] for record in records)
    rows.append({"what": "R waves", "found": {
        "up": counts["up"], "down": counts["down"], "not told": counts[None]}})
    for name, words in (("belts", "thorax and abdomen"), ("thorax_flow", "thorax and airflow"),
                        ("abdomen_flow", "abdomen and airflow")):
        values = [record["polarity"][name] for record in records]
        values = [v["correlation"] for v in values if v is not None]
        rows.append({"what": words, "found": {
            "together": sum(v >= 0.3 for v in values), "opposed": sum(v <= -0.3 for v in values),
            "not told": len(records) - sum(abs(v) >= 0.3 for v in values)}})
    return rows


def _statistics(records: list[dict]) -> list[dict]:
    """Median and range over nights of the sleep statistics and of the AHI under each rule."""
    rows = []
    for label, unit, values in cohort_figures.statistic_values(records):
        if len(values):
            low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
            rows.append({"label": label, "unit": unit, "n": len(values), "low": low,
                         "middle": middle, "high": high})
    return rows
