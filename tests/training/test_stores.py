"""Runs whose folder lies in an object store: real processes, and servers that speak its protocol.

The figure to meet is always that of the same run on this machine's disk.
"""

import os
import signal
import subprocess
import sys
import time
import uuid

import jax
import numpy as np
import pytest

from sleeplm_jax.cli import main
from sleeplm_jax.errors import CheckpointError, UserError
from sleeplm_jax.files import read_rows, write_atomically
from sleeplm_jax.inference.run import Model
from sleeplm_jax.interop.torch_folder import new_folder
from sleeplm_jax.places import place
from sleeplm_jax.training.loop import train
from tests.fixtures_run import tiny_config
from tests.multiprocess.launching import TINY, ended, launched, log, rows, wait_until

STORES = ["s3", "gs"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SLEEPLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def whole(folder):
    """Steps of the checkpoints at the store, by their receipts."""
    names = (path.name for path in (folder / "checkpoints" / "receipts").iterdir())
    return sorted(int(name.partition(".")[0]) for name in names if name.endswith("0-of-1.json"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", STORES)
def test_killed_resumed_and_used_as_on_a_disk(
    kind, store_servers, trained_run, corpus_folder, tmp_path, cache, capsys
):
    out = f"{kind}://bucket/{uuid.uuid4().hex}"
    folder = place(out) / "tiny"
    arguments = ["train", str(TINY), "--out", out, "--data.corpus", str(corpus_folder),
                 "--tensorboard"]
    process = subprocess.Popen(
        [sys.executable, "-m", "sleeplm_jax.cli", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )
    try:
        wait_until(lambda: whole(folder), process, "a checkpoint")
        process.send_signal(signal.SIGKILL)
        said, _ = process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL, said
    finally:
        process.kill()
    cut = read_rows(folder / "metrics.jsonl")
    assert not cut or max(row["step"] for row in cut) < 12, "it ended before it could be killed"
    for kept in whole(folder):  # no checkpoint is ahead of the rows
        assert {row["step"] for row in cut} >= set(range(1, kept + 1))

    # ---- The same command goes on, to the bit
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert f"resuming {folder} at step" in said and f"done: {folder}" in said
    assert rows(folder) == rows(trained_run) and rows(folder, "val") == rows(trained_run, "val")
    # The scratch is gone; the killed process' own goes with a start that comes a minute later.
    assert len(list(cache.glob("checkpoints-*"))) <= 1
    assert any(path.name.startswith("events.") for path in (folder / "tensorboard").iterdir())
    names = {path.name for path in folder.iterdir()}
    assert names >= {"config.json", "run.json", "tokenizer.model", "tokenizer.json", "status.json"}
    assert "lock.json" not in names

    # ---- Used from there
    here, there = Model.load(trained_run, "latest"), Model.load(str(folder), "latest")
    same = jax.tree.map(np.array_equal, here.parameters, there.parameters)
    assert all(jax.tree.leaves(same)) and there.step == 12
    assert main(["runs", out]) == 0 and "done" in capsys.readouterr().out
    assert main(["export", str(folder), "--out", str(tmp_path / "torch")]) == 0
    assert (tmp_path / "torch" / "model.safetensors").is_file()
    with pytest.raises(UserError, match="not on this machine's disks"):
        new_folder(f"{out}/torch")
    with pytest.raises(CheckpointError, match="is no run folder"):
        Model.load(f"{out}/absent")


@pytest.mark.slow
def test_a_damaged_checkpoint_is_passed_over(store_servers, corpus_folder):
    out = f"s3://bucket/{uuid.uuid4().hex}"
    folder = train(tiny_config(corpus_folder, out, steps=6, eval_every=6), silent)
    before = rows(folder)
    archive = folder / "checkpoints" / "6" / "parameters.0-of-1.zip"
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 1
    write_atomically(archive, bytes(data))
    said = []
    train(tiny_config(corpus_folder, out, steps=6, eval_every=6), said.append)
    assert any("is not what was sent" in line and "passed over for 4" in line for line in said)
    assert rows(folder) == before and whole(folder) == [4, 6]
    assert (folder / "damaged" / "6").is_dir()


def silent(line):
    pass


@pytest.mark.slow
def test_several_processes_send_one_checkpoint(store_servers, trained_run, corpus_folder, tmp_path):
    """Two processes of two devices on a mesh of data and fsdp, stopped; one goes on alone."""
    out = f"s3://bucket/{uuid.uuid4().hex}"
    folder = place(out) / "tiny"
    long = ("--out", out, "--steps", "100000", "--eval-every", "100000", "--checkpoint-every", "8")
    with launched(corpus_folder, tmp_path, *long, "--mesh.data", "2", "--mesh.fsdp", "2",
                  devices=2) as process:
        receipts = folder / "checkpoints" / "receipts"
        wait_until(lambda: any(p.name.endswith("1-of-2.json") for p in receipts.iterdir()),
                   process, "a checkpoint")
        process.send_signal(signal.SIGTERM)
        status, said, _ = ended(process)
    assert status == 128 + signal.SIGTERM, said + log(tmp_path, 0)
    last = max(int(path.name.partition(".")[0]) for path in receipts.iterdir())
    assert {p.name for p in receipts.iterdir()} >= {f"{last}.0-of-2.json", f"{last}.1-of-2.json"}
    before = rows(folder)
    with launched(corpus_folder, tmp_path, *long, processes=1) as alone:
        wait_until(lambda: f"at step {last:,} of" in log(tmp_path, 0), alone, "the resumption")
        wait_until(lambda: any(p.name.endswith("0-of-1.json") for p in receipts.iterdir()),
                   alone, "a checkpoint of one process")
        alone.send_signal(signal.SIGTERM)
        status, said, _ = ended(alone)
    assert status == 128 + signal.SIGTERM, said
    after = rows(folder)
    assert after[: len(before)] == before
    assert [row["step"] for row in after] == list(range(1, len(after) + 1))


@pytest.mark.parametrize(("environment", "address", "finding"), [
    ({}, "s3://absent/runs", "no such bucket; make the bucket"),
    ({}, "gs://absent/runs", "no such bucket; make the bucket"),
    ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None, "HOME": "/nonexistent",
      "AWS_EC2_METADATA_DISABLED": "true"}, "s3://bucket/runs", "give credentials"),
    ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}, "s3://bucket/runs",
     "see to the network"),
])
def test_what_a_store_lacks_is_one_line_before_any_work(
    store_servers, environment, address, finding
):
    changed = {k: v for k, v in (os.environ | environment).items() if v is not None}
    code = (
        "import sys; from sleeplm_jax.errors import UserError; from sleeplm_jax.files import *\n"
        "from sleeplm_jax.places import place\n"
        "try: make_folder(place(sys.argv[1]))\nexcept UserError as error: print(error)"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code, address], env=changed, capture_output=True,
                          text=True, timeout=120)
    assert done.stdout.count("\n") == 1 and finding in done.stdout, done.stdout + done.stderr
    assert done.stdout.startswith(f"{address}: ") and not done.stderr
    assert time.monotonic() - began < 60
