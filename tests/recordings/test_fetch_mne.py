"""Fetching Sleep-EDF through MNE's own fetcher."""

import hashlib

import pytest

from sleeplm_jax.recordings.fetch import NOTICE
from sleeplm_jax.recordings.fetch_archives import archives
from sleeplm_jax.recordings.fetch_network import ATTEMPTS, HostError, Network
from tests.fixtures_archives import below, content, quick


@pytest.fixture
def sleep_edf(server, monkeypatch, tmp_path):
    """MNE's own fetcher over a table of its form: subjects 0 (two nights), 13 (one) and 2."""
    from mne.datasets.sleep_physionet import age

    files, rows = {}, ["subject,night,record type,age,sex,lights off,sha,fname"]
    for subject, night, stem in ((0, 1, "SC4001E"), (0, 2, "SC4002E"), (2, 1, "SC4021E"),
                                 (13, 1, "SC4131E")):  # fmt: skip
        for kind, end in (("PSG", "0-PSG.edf"), ("Hypnogram", "C-Hypnogram.edf")):
            data = content(subject * 10 + night, 30_000 if kind == "PSG" else 900)
            files[stem + end] = data
            sha = hashlib.sha1(data).hexdigest()
            rows.append(f"{subject},{night},{kind},33,female,00:38:00,{sha},{stem}{end}")
    table = tmp_path / "age_records.csv"
    table.write_text("\n".join(rows) + "\n")
    monkeypatch.setattr(age, "AGE_SLEEP_RECORDS", str(table))
    for name, data in files.items():
        (server.folder / name).write_bytes(data)
    return files


def test_mne_brings_subjects_and_they_lie_flat(sleep_edf, server, tmp_path):
    out = tmp_path / "out"
    result, said = quick("sleep-edf", out, server.url, subjects="0,13")
    wanted = {name for name in sleep_edf if name[:5] in ("SC400", "SC413")}
    assert set(result.brought) == wanted and below(out) == wanted | {NOTICE}
    assert all((out / name).read_bytes() == sleep_edf[name] for name in wanted)
    assert "ODC-By" in (out / NOTICE).read_text()
    server.asked.clear()
    (out / "SC4001EC-Hypnogram.edf").unlink()
    result, _ = quick("sleep-edf", out, server.url, subjects="0-20")
    assert {path for path, _ in server.gets()} == {
        "SC4001EC-Hypnogram.edf", "SC4021E0-PSG.edf", "SC4021EC-Hypnogram.edf"
    }  # what is complete is not asked for again
    assert len(result.kept) == 5 and below(out) == set(sleep_edf) | {NOTICE}


def test_a_folder_in_sleep_edfs_layout_is_a_mirror(sleep_edf, server, tmp_path):
    result, _ = quick("sleep-edf", tmp_path / "out", str(server.folder))
    assert set(result.brought) == set(sleep_edf)


def test_what_mne_cannot_bring_is_one_line_and_the_rest_goes_on(sleep_edf, server, tmp_path):
    (server.folder / "SC4001E0-PSG.edf").write_bytes(b"another content")
    (server.folder / "SC4021EC-Hypnogram.edf").unlink()
    result, said = quick("sleep-edf", tmp_path / "out", server.url)
    assert set(result.brought) == {n for n in sleep_edf if n.startswith("SC413")}
    lines = [line for line in said if line.startswith("failed:")]
    assert len(lines) == 2 and not any("\n" in line for line in lines)
    assert "SHA1" in lines[0] and "SC400" in lines[0] and "404" in lines[1]
    assert not [n for n in below(tmp_path / "out") if "SC4001E0" in n]
    (server.folder / "SC4001E0-PSG.edf").write_bytes(sleep_edf["SC4001E0-PSG.edf"])
    server.asked.clear()
    result, _ = quick("sleep-edf", tmp_path / "out", server.url, subjects="0")
    assert not result.failed and not server.gets("SC4021E0")


def test_a_busy_server_is_asked_again_through_mne(sleep_edf, server, tmp_path):
    server.status["SC4001E0-PSG.edf"] = [503]
    with pytest.raises(HostError, match="busy"):
        quick("sleep-edf", tmp_path / "out", server.url, subjects="0")
    assert len(server.gets("SC4001E0-PSG.edf")) == ATTEMPTS


def test_the_table_of_mne_has_the_study_as_documented(psg):
    """153 recordings of 78 people, 22 placebo nights (MNE's page); sums of 20 real hypnograms."""
    from sleeplm_jax.recordings.fetch_listings import listing

    found = {
        name: listing(archives()[name], "https://x", Network()).files
        for name in ("sleep-edf", "sleep-edf-telemetry")
    }
    cassette = found["sleep-edf"]
    assert len(cassette) == 2 * 153 and len({file.number for file in cassette}) == 78
    assert {file.number for file in cassette} == set(range(83)) - {39, 68, 69, 78, 79}
    assert all(file.subject == f"SC4{file.number:02d}" for file in cassette)
    assert len(found["sleep-edf-telemetry"]) == 2 * 22
    sums = {file.path: file.checksum for file in cassette}
    real = sorted((psg / "sleepedf_hypnograms" / "edf").glob("SC4*-Hypnogram.edf"))
    assert real
    for path in real:
        assert sums[path.name] == f"sha1:{hashlib.sha1(path.read_bytes()).hexdigest()}"
