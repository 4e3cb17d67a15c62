import json

import pytest
from PIL import Image

from sleeplm_jax.errors import CheckpointError
from sleeplm_jax.reports.curves import plot_training, read_metrics


def write(path, rows, tail=""):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + tail)
    return path


def test_rows_are_read_by_split_and_a_cut_line_is_left_out(tmp_path):
    rows = [{"step": 10, "split": "train", "loss": 5.0, "learning_rate": 1e-3},
            {"step": 10, "split": "val", "loss": 6.0}, {"step": 20, "split": "train", "loss": 4.0}]
    found = read_metrics(write(tmp_path / "m.jsonl", rows, '{"step": 30, "split": "tr'))
    assert found["train", "loss"] == ([10, 20], [5.0, 4.0])
    assert found["val", "loss"] == ([10], [6.0]) and ("val", "learning_rate") not in found


def test_picture_decodes_whatever_parts_there_are(tmp_path):
    rows = [
        {"step": s, "split": split, "loss": 9 / s, "contrastive": 4 / s, "caption": 3 / s}
        for s in (10, 20, 30) for split in ("train", "val")
    ]
    out = plot_training(write(tmp_path / "m.jsonl", rows), tmp_path / "curves.png")
    picture = Image.open(out)
    picture.load()
    assert picture.format == "PNG" and picture.width > 1000
    assert {p.name for p in tmp_path.iterdir()} == {"m.jsonl", "curves.png"}


@pytest.mark.parametrize("content", [None, "", "not json\n"])
def test_nothing_to_draw_is_one_line(tmp_path, content):
    path = tmp_path / "m.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(CheckpointError, match="no metrics"):
        plot_training(path, tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()
