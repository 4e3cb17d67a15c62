"""The picture of an epoch: the signals that are there, at their size, at their place in time."""

import dataclasses
import io
import json

import numpy as np
import pytest

from sleeplm_jax.cli import main
from sleeplm_jax.physiology.measure import measure_night
from sleeplm_jax.recordings.night import Event, Trace
from sleeplm_jax.reports.caption_page import (
    ACROSS,
    LEFT,
    ORDER,
    _lanes,
    _scale,
    epoch_captions,
    epoch_picture,
    epoch_rows,
)
from tests.physiology.nights import drawn_night, drawn_traces


def image(png):
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), int)


def event(kind, onset, end):
    return {"kind": kind, "onset": onset, "end": end, "continues_from": False,
            "continues_into": False, "channel": None}


EMPTY = {"stage": None, "events": [], "measurements": [], "missing": [], "scored": [],
         "stand_ins": []}  # fmt: skip


@pytest.fixture(scope="module")
def night():
    """Six epochs; C4 an 8-Hz sine of 40 µV and a step of it in the fourth epoch only."""
    traces = drawn_traces(6)
    t = np.arange(6 * 30 * 100) / 100
    wave = 40 * np.sin(2 * np.pi * 8 * t) * np.where((t >= 90) & (t < 120), 2.0, 1.0)
    traces["C4"] = Trace(wave.astype(np.float32), 100.0, "µV")
    events = (Event("arousal", 95.0, 5.0), Event("hypopnea", 70.0, 30.0))
    return drawn_night(6, stages=[0, 1, 2, 2, 3, 4], events=events, traces=traces)


def test_rows_are_the_epochs_own_signals_in_order(night):
    rows = epoch_rows(night, 3, missing=["THX"])
    assert [row.channel for row in rows] == [c for c in ORDER if c in night.traces]
    assert [row.channel for row in rows if not row.usable] == ["THX"]
    c4 = next(row for row in rows if row.channel == "C4")
    assert len(c4.values) == 3000 and c4.unit == "µV"
    # Within the pass band the amplitude is that of the trace; at the edges the doubling rings.
    assert np.abs(c4.values[300:-300]).max() == pytest.approx(80, rel=0.02)
    before = next(row for row in epoch_rows(night, 2) if row.channel == "C4")
    assert np.abs(before.values[300:-300]).max() == pytest.approx(40, rel=0.02)


def test_the_last_epoch_of_a_short_trace_is_drawn(night):
    cut = dataclasses.replace(night.traces["C4"], values=night.traces["C4"].values[:-500])
    short = dataclasses.replace(night, traces={**night.traces, "C4": cut})
    row = next(row for row in epoch_rows(short, 5) if row.channel == "C4")
    assert len(row.values) == 2500
    assert epoch_picture(short, 5, EMPTY, []).startswith(b"\x89PNG")


def test_a_scale_is_round_and_holds_the_signal():
    assert _scale([np.full(100, 40.0)]) == 50
    assert _scale([np.full(100, 7.6e-5)]) == pytest.approx(1e-4)
    assert _scale([np.full(100, 40.0), np.full(100, 140.0)]) == 150
    assert _scale([np.zeros(9)]) == _scale([np.array([np.nan])]) == _scale([]) == 0


def test_events_share_lanes_only_where_they_leave_room():
    far = [event("arousal", 0, 3), event("arousal", 20, 23)]
    near = [event("hypopnea", 0, 25), event("arousal", 20, 23)]
    assert len(_lanes(far)) == 1 and len(_lanes(near)) == 2 and _lanes([]) == []


def test_an_event_colours_its_time_and_its_channels_only(night):
    """The pictures with and without the event differ between its onset and end."""
    with_one = EMPTY | {"events": [event("desaturation", 10.0, 20.0)]}
    plain = image(epoch_picture(night, 0, EMPTY | {"events": [event("desaturation", 0, 0)]}, []))
    shaded = image(epoch_picture(night, 0, with_one, []))
    assert plain.shape == shaded.shape
    width = plain.shape[1]
    below = slice(int(0.3 * plain.shape[0]), None)  # not the strip with the event's name
    columns = np.flatnonzero((plain[below] != shaded[below]).any(axis=(0, 2))) / width
    seconds = (columns - LEFT) / ACROSS * 30
    assert seconds.min() == pytest.approx(10, abs=0.3)
    assert seconds.max() == pytest.approx(20, abs=0.3)


def test_captions_make_the_picture_taller_and_fewer_colours_smaller(night):
    told = [("brain", "C4: delta 3%. " * 30), ("heart", "Heart rate: 60 bpm.")]
    bare, full = (image(epoch_picture(night, 3, EMPTY, t)) for t in ([], told))
    assert full.shape[0] > bare.shape[0] + 60 and full.shape[1] == bare.shape[1]
    large, small = (epoch_picture(night, 3, EMPTY, told, dpi=80, colours=c) for c in (None, 16))
    assert len(small) < len(large) / 2
    assert len(np.unique(image(small).reshape(-1, 3), axis=0)) <= 16


@pytest.mark.parametrize("epoch", [-1, 6])
def test_an_epoch_that_is_not_there(night, epoch):
    with pytest.raises(IndexError):
        epoch_picture(night, epoch, EMPTY, [])


def test_a_night_without_traces_still_has_a_picture(night):
    bare = dataclasses.replace(night, traces={}, channels={})
    assert epoch_picture(bare, 0, EMPTY, [("night", "Nothing is known.")]).startswith(b"\x89PNG")


def test_every_kind_of_caption_is_told(night):
    told = epoch_captions(night, measure_night(night), 3)
    kinds = [heading for heading, _ in told]
    assert kinds[:5] == ["brain", "heart", "respiratory", "position_muscle", "stage_event"]
    assert kinds[5:] == ["context", "night"]  # three minutes: no five, no cycle
    text = dict(told)
    assert "95" not in text["brain"] and "5.0" in text["stage_event"]
    assert "N2" in text["context"]


def test_the_command_prints_and_draws(psg, tmp_path, capsys):
    out = tmp_path / "epoch.png"
    file = psg / "rsleep_nox" / "subject1.edf"
    assert main(["captions", "show", str(file), "--epoch", "2", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    record, end = json.JSONDecoder().raw_decode(said)
    assert {m["channel"] for m in record["measurements"]} >= {"C3", "C4", "ECG", "THX", "SpO2"}
    for kind in ("brain", "heart", "respiratory", "position_muscle", "night"):
        assert f"\n{kind}: " in said[end:]
    assert "stage_event" not in said  # not staged
    drawn = image(out.read_bytes())
    assert drawn.shape[0] > 700 and drawn.std() > 20


@pytest.mark.parametrize(
    ("more", "finding"),
    [(["--epoch", "4"], "has 4 epochs"), (["--epoch", "-1"], "has 4 epochs"),
     (["--epoch", "0", "--style", "baroque"], "baroque"),
     (["--epoch", "0", "--out", "picture.jpg"], "names no PNG")],
)  # fmt: skip
def test_a_wrong_option_is_one_line(psg, capsys, more, finding):
    assert main(["captions", "show", str(psg / "rsleep_nox" / "subject1.edf"), *more]) == 2
    said = capsys.readouterr().err
    assert finding in said and said.count("\n") == 1
