"""The real recordings that the reference experiments use, brought into folders for `prepare`.

What they are: of UCDDB (PhysioNet, ODC-By 1.0; one EEG derivation) a whole night and the wake and
deep epochs of eleven more people; two minutes of a clinical polysomnography (NOX A1, rsleep, MIT);
one minute of slpdb's slp41 and five of Sleep-EDF's SC4001 (PhysioNet, ODC-By 1.0).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np

NIGHT = "ucddb018"
SHORT = {  # file: the subject that `prepare` finds in its name
    "rsleep_nox/subject1.edf": "subject1", "slpdb_multimodal/slp41_60s.edf": "slp41",
    "edfio_sleepedf_short/short_psg.edf": "short_psg",
}
ROOT = Path(__file__).resolve().parents[2]


def folder_of_pieces() -> Path | None:
    """$SLEEPLM_PSG, else ../shared/psg of the clone; None where there is no such folder."""
    named = os.environ.get("SLEEPLM_PSG")
    folder = Path(named) if named else ROOT.parent / "shared" / "psg"
    return folder if folder.is_dir() else None


def bring(psg: Path, out: Path) -> dict[str, Path]:
    """Folders {"unscored": to train on, "night", "short": to measure on}, made under `out`.

    The eleven people come without their stages: these are wake and N3 alone, and a model that is
    told them learns that what looks real is one of the two (docs/real_night.md). Their captions
    then say what was measured in the EEG and nothing else.
    """
    folders = {name: out / name for name in ("unscored", "night", "short")}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    for path in sorted((psg / "ucddb_eeg" / "epochs").glob("ucddb*.npz")):
        _write_epochs(path, folders["unscored"] / f"{path.stem}_eeg.edf")
    for suffix in ("_eeg.edf", "_hypnogram.edf"):
        _copy(psg / "ucddb_eeg" / f"{NIGHT}{suffix}", folders["night"])
    for name in SHORT:
        _copy(psg / name, folders["short"])
    return folders


def _write_epochs(path: Path, edf: Path) -> None:
    """A person's epochs at their places in the night, flat where there is none (`prepare` drops
    what is flat)."""
    import edfio

    if edf.exists():
        return
    with np.load(path, allow_pickle=False) as file:
        rate, samples = int(file["sfreq"]), file["x"].shape[1]
        night = np.zeros((int(file["n_epochs_night"]), samples))
        night[file["epoch_index"]] = file["x"] * float(file["scale"])
    signal = edfio.EdfSignal(night.ravel(), rate, label="EEG", physical_dimension="mV")
    partial = edf.with_suffix(".partial")
    edfio.Edf([signal]).write(partial)
    partial.rename(edf)


def _copy(source: Path, folder: Path) -> None:
    if source.is_file() and not (folder / source.name).exists():
        shutil.copyfile(source, folder / source.name)
