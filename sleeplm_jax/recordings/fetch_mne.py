"""Sleep-EDF through MNE's own fetcher, its files laid flat and its errors in one line."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from sleeplm_jax.recordings.fetch_archives import Archive, RemoteFile
from sleeplm_jax.recordings.fetch_network import FileError, Network

FOLDER = "physionet-sleep-data"  # which MNE puts below the path it is given


def fetch_subject(
    archive: Archive, base: str, files: list[RemoteFile], out: Path, staging: Path,
    network: Network, complete: set[str],
) -> None:
    """One subject's recordings and hypnograms in `out`, checked by MNE's SHA-1 sums.

    MNE asks for all nights of a subject, takes a file that it finds for good and does not go on
    with a part of one: `complete` files are linked into its folder first, and those an earlier,
    interrupted call left there are kept. Raises FileError, HostError.
    """
    import requests
    from mne.datasets import sleep_physionet

    study = getattr(sleep_physionet, archive.study)
    # Nights 1 of subjects 36 and 52 and night 2 of 13 do not exist: MNE's word for "as they are".
    absent = {"on_missing": "ignore"} if archive.study == "age" else {}
    folder = staging / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        if file.path in complete and not (folder / file.path).exists():
            _link(out / file.path, folder / file.path)

    def work() -> None:
        try:
            study.fetch_data(
                subjects=[files[0].number], path=str(staging), base_url=base.rstrip("/"),
                verbose="error", **absent,
            )
        except requests.RequestException as error:
            url = getattr(getattr(error, "request", None), "url", None) or base
            raise network.translate(url, error) from error
        except ValueError as error:  # pooch's word for a wrong sum; it has removed the file
            raise FileError(
                f"{base} ({files[0].subject})",
                "a file came with another SHA1 than the one MNE knows; it was removed",
                "try again later; if it stays so, update mne: the archive may have changed",
            ) from error

    network.patiently(base, work, lambda: len(list(folder.glob("*.edf"))))
    for file in files:
        got = folder / file.path
        if not got.is_file():
            raise FileError(
                file.url, "was not brought by MNE's fetcher", "update mne; its list has changed"
            )
        if file.path not in complete:
            os.replace(got, out / file.path)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)
