"""Which scoring file belongs to a recording, by name: every archive's own way.

The names are listed in docs/scoring.md. Files of one group score the same night in two forms, or
by two scorers: the first of them is taken. Files of two groups are two scorings, and an error.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings.night import Dialect

# {x}: the recording's name without suffix; {bids}: that without "_eeg".
GROUPS = (
    ("{x}.xml",),
    # The Compumedics file has every event as it was scored; the NSRR's own is made from it.
    ("{x}-profusion.xml", "{x}-nsrr.xml"),
    ("{x}_hypnogram.edf",),
    ("{x}_events.tsv", "{bids}_events.tsv"),
    ("{x}.annot",),
    ("{x}_sleepscoring.txt", "{x}_sleepscoring.edf"),  # HMC gives both
    ("{x}_stage.txt",),  # UCDDB; its _respevt.txt is read with it
    ("{x}.st",),  # slpdb
    ("{x}.arousal",),  # PhysioNet 2018
    ("{x}.stg.txt",),  # WSC
    ("{x}_1.txt", "{x}_2.txt"),  # ISRUC's two scorers
    ("{x}.ids", "{x}_hypnogram.ids"),
    ("{x}.csv",),  # Noxturnal, SleepFM, STAGES
    ("{x}.txt",),  # REMlogic (CAP)
)
# Taken only where the dialect names the format: one code a line, or a list, may be anything.
DECLARED = {
    "codes": ("codes", "ucddb", "isruc"),  # what is in the file: the formats that it may be
    "wsc": ("wsc",),
    "dreem": ("dreem",),
}
DREEM = ("{x}.json",)
# Looked at only where nothing else is found.
LAST = ("{bids}_hypnogram.edf",)
# NSRR: polysomnography/edfs/.../x.edf, annotations in a twin of that folder.
NSRR_FOLDERS = (
    ("annotations-events-profusion", "{x}-profusion.xml"),
    ("annotations-events-nsrr", "{x}-nsrr.xml"),
)


def find_scoring(recording_path: Path | str, dialect: Dialect | None = None) -> Path | None:
    """The scoring file that belongs to a recording, or None.

    `dialect` (a montage's `scoring` part): where it names the format, x.txt or x.csv of one stage
    code a line (codes, ucddb, isruc, wsc) and x.json (dreem) are taken too, and never without it.

    Beside it the names of GROUPS; Sleep-EDF's SC4001E0-PSG.edf has SC4001E?-Hypnogram.edf, MASS'
    "01-02-0001 PSG.edf" has "01-02-0001 Base.edf" or "01-02-0001 Annotations.edf", DCSM's psg.edf
    has hypnogram.ids. Then the NSRR's folders, BIDS' sourcedata/sub-XX-sleep-stage.tsv, and
    x_hypnogram.edf beside x_eeg.edf.
    Case does not matter where no name fits exactly (NIGHT.EDF, night.XML). Raises RecordingError
    listing them where several fit.
    """
    path = Path(recording_path)
    stem = path.stem
    bids = stem[:-4] if stem.casefold().endswith("_eeg") else stem
    there: dict[str, list[str]] = {}  # without case: a cohort's folder may hold thousands
    for name in _names(path.parent):
        there.setdefault(name.casefold(), []).append(name)
    found = []
    named = _named(dialect)
    for group in (*GROUPS, *([DREEM] if named == "dreem" else [])):
        names = dict.fromkeys(name.format(x=stem, bids=bids) for name in group)
        mine = [file for name in names for file in _beside(path, name, there)]
        if mine and _plausible(mine[0], stem, named):
            # Names of one case only are two files of one name: an error as any other.
            same = [f for f in mine if f.name.casefold() == mine[0].name.casefold()]
            found += same if len(same) > 1 else mine[:1]
    found += _by_pattern(path, stem, there)
    if len(found) > 1:
        raise RecordingError(
            path,
            f"several scoring files fit: {', '.join(p.name for p in found)}",
            "keep the one to use beside the recording, and move the others to another folder",
        )
    for name in LAST:
        found = found or _beside(path, name.format(bids=bids), there)[:1]
    found = found or _nsrr(path) or _sourcedata(path)
    return found[0] if found else None


def needs_dialect(recording_path: Path | str) -> bool:
    """Whether a file lies beside the recording that `find_scoring` takes with a dialect only."""
    path = Path(recording_path)
    wanted = {f"{path.stem}{suffix}".casefold() for suffix in (".txt", ".csv", ".json")}
    return any(
        name.casefold() in wanted and _format(path.with_name(name)) in DECLARED
        for name in _names(path.parent)
    )


def _named(dialect: Dialect | None) -> str | None:
    from sleeplm_jax.recordings.scoring import ALSO_CALLED

    named = dialect.format if dialect else None
    return ALSO_CALLED.get(named or "", named)


def _by_pattern(path: Path, stem: str, there: dict[str, list[str]]) -> list[Path]:
    """Sleep-EDF, MASS and DCSM, whose scoring is not named after the whole recording."""
    if match := re.fullmatch(r"(.+).-PSG", stem, re.IGNORECASE):
        wanted = re.compile(re.escape(match[1]) + r".-Hypnogram\.edf", re.IGNORECASE)
    elif match := re.fullmatch(r"(.+)[ _]PSG", stem, re.IGNORECASE):
        wanted = re.compile(re.escape(match[1]) + r"[ _](Base|Annotations)\.edf", re.IGNORECASE)
    elif stem.casefold() == "psg":
        wanted = re.compile(r"hypnogram\.ids", re.IGNORECASE)
    else:
        return []
    names = sorted(name for same in there.values() for name in same)
    return [path.with_name(name) for name in names if wanted.fullmatch(name)]


def _beside(path: Path, name: str, there: dict[str, list[str]]) -> list[Path]:
    """Files of this name in the folder of `path`; of other case only where none is exact."""
    same = there.get(name.casefold(), [])
    files = [path.with_name(name)] if name in same else [path.with_name(other) for other in same]
    return [file for file in files if file.name != path.name and file.is_file()]


def _plausible(path: Path, stem: str, named: str | None) -> bool:
    """A .csv, .txt or .json of a recording's name may hold anything: it must look like a scoring,
    and codes or a table of numbers must be what the dialect names."""
    suffix = path.suffix.casefold()
    if suffix not in (".csv", ".txt", ".json") or path.stem.casefold() != stem.casefold():
        return True
    found = _format(path)
    if found in DECLARED:
        return named in DECLARED[found]
    return suffix != ".json" and found not in (None, "xml")


def _format(path: Path) -> str | None:
    from sleeplm_jax.recordings.scoring import format_of

    try:
        return format_of(path)
    except RecordingError:
        return None


def _nsrr(path: Path) -> list[Path]:
    parts = path.parts
    for at in range(len(parts) - 2, 0, -1):
        if parts[at] == "edfs":
            for folder, name in NSRR_FOLDERS:
                twin = Path(*parts[:at], folder, *parts[at + 1 : -1], name.format(x=path.stem))
                if twin.is_file():
                    return [twin]
    return []


def _sourcedata(path: Path) -> list[Path]:
    """OpenNeuro ds003768: one table a person, for all sessions."""
    if match := re.match(r"(sub-[0-9A-Za-z]+)_", path.name):
        for parent in path.parents[1:4]:
            table = parent / "sourcedata" / f"{match[1]}-sleep-stage.tsv"
            if table.is_file():
                return [table]
    return []


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []  # opening the recording will say it
