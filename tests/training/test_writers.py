"""Metrics on disk, in TensorBoard's files, and, only when asked for, in Weights & Biases."""

import dataclasses
import json
import struct
import sys

import numpy as np
import pytest

from sleeplm_jax.errors import ConfigError
from sleeplm_jax.training.wandb_writer import check_wandb
from sleeplm_jax.training.writers import MetricsWriter
from tests.models.test_recoca import SMALL

CONFIG = dataclasses.replace(
    SMALL, name="night", tensorboard=False, wandb="",
    data=dataclasses.replace(SMALL.data, corpus="/cohorts/of/people"),
)

FAKE = '''
import pathlib
pathlib.Path(__file__).with_name("imported").touch()
calls = []


class Run:
    id = "abc123"

    def __getattr__(self, name):
        return lambda *a, **k: calls.append((name, a, k))


def init(**options):
    calls.append(("init", (), options))
    return Run()


class Settings(dict):
    pass
'''


@pytest.fixture
def wandb(tmp_path, monkeypatch):
    """A stand-in for the package, as Python finds it; its folder."""
    package = tmp_path / "site" / "wandb"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(FAKE)
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    yield package
    sys.modules.pop("wandb", None)


def rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def events(folder):
    """`(step, tag, value)` of TensorBoard's files; a picture's value is its size."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted((folder / "tensorboard").iterdir()):
        data, at = path.read_bytes(), 0
        while at < len(data):  # length, its checksum, the event, its checksum
            (length,) = struct.unpack("<Q", data[at : at + 8])
            event = Event.FromString(data[at + 12 : at + 12 + length])
            at += length + 16
            for value in event.summary.value:
                image = (value.image.height, value.image.width)
                found.append((event.step, value.tag,
                              image if value.HasField("image") else value.simple_value))
    return found


def test_rows_of_steps_that_come_again_are_dropped(tmp_path):
    writer = MetricsWriter(tmp_path, 0, CONFIG)
    for step in (1, 2, 3):
        writer.write(step, "train", {"loss": float(step)})
    writer.close()
    again = MetricsWriter(tmp_path, 2, CONFIG)
    again.write(3, "train", {"loss": 30.0, "grad_norm": float("inf")})
    again.close()
    assert [(row["step"], row["loss"]) for row in rows(tmp_path)] == [(1, 1), (2, 2), (3, 30)]
    assert rows(tmp_path)[-1]["grad_norm"] is None


def test_tensorboard_has_speed_apart_and_pictures(tmp_path):
    writer = MetricsWriter(tmp_path, 0, dataclasses.replace(CONFIG, tensorboard=True))
    assert writer.takes_pictures
    writer.write(5, "train", {"loss": 2.0, "samples_per_s": 64.0, "grad_norm": float("nan")})
    writer.picture(5, "held_out/retrieval", np.zeros((20, 30, 3), np.uint8))
    writer.close()
    assert sorted(events(tmp_path)) == [
        (5, "held_out/retrieval", (20, 30)), (5, "speed/samples_per_s", 64.0),
        (5, "train/loss", 2.0),
    ]


def test_wandb_is_not_even_imported_unless_asked_for(tmp_path, wandb):
    check_wandb(CONFIG)
    MetricsWriter(tmp_path, 0, CONFIG).close()
    assert not (wandb / "imported").exists()


def test_wandb_gets_metrics_and_settings_and_nothing_that_tells_whose(tmp_path, wandb):
    config = dataclasses.replace(CONFIG, wandb="sleep", tensorboard=True)
    check_wandb(config)
    assert not (wandb / "imported").exists()  # asked for is not yet used
    writer = MetricsWriter(tmp_path, 0, config)
    writer.write(7, "val", {"loss": 1.5})
    writer.picture(7, "held_out/reconstruction", np.zeros((8, 8, 3), np.uint8))
    writer.close()
    calls = sys.modules["wandb"].calls
    options = calls[0][2]
    assert (options["project"], options["name"], options["id"]) == ("sleep", "night", None)
    assert options["config"]["model.encoder.width"] == 16
    assert "/cohorts" not in json.dumps(options["config"])
    assert options["settings"]["x_disable_machine_info"] and options["settings"]["disable_git"]
    assert options["settings"]["console"] == "off" and options["save_code"] is False
    logged = [arguments for name, arguments, _ in calls if name == "log"]
    assert logged == [({"step": 7, "val/loss": 1.5},)]  # the picture stays here
    assert calls[-1][0] == "finish"
    calls.clear()
    MetricsWriter(tmp_path, 7, config).close()  # resumed: the same run goes on
    assert calls[0][2]["id"] == "abc123" and calls[0][2]["resume"] == "allow"


@pytest.mark.parametrize("folder_in_the_way", [False, True])
def test_wandb_asked_for_and_not_there_is_one_line(tmp_path, monkeypatch, folder_in_the_way):
    """Its own output folder ./wandb looks like a package to Python, and is none."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *(p for p in sys.path if "site-" not in p)])
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    if folder_in_the_way:
        (tmp_path / "wandb" / "run-1").mkdir(parents=True)
    with pytest.raises(ConfigError, match="the package is not installed; pip install wandb"):
        check_wandb(dataclasses.replace(CONFIG, wandb="sleep"))
