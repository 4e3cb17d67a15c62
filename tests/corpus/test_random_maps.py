"""Changed samples: what their texts and keys say is true of what they show, found out anew."""

import dataclasses
import itertools
from dataclasses import replace

import numpy as np
import pytest

from sleeplm_jax.captions.grounding import GROUPS_OF_EVENT, grounded_for
from sleeplm_jax.captions.parse import parse
from sleeplm_jax.captions.record import DECIMALS, keys_of, stated
from sleeplm_jax.config import CAPTION_KINDS, CHANNEL_PAIRS, DataConfig
from sleeplm_jax.corpus.loader import Loader
from sleeplm_jax.corpus.nightfile import dequantise, read_night
from sleeplm_jax.corpus.random_maps import LEAST_PART, SIZED, joined_events, window_events
from sleeplm_jax.physiology import measure
from sleeplm_jax.physiology.measure import RECORD_KINDS, measure_night
from sleeplm_jax.recordings.prepare import prepare_night
from sleeplm_jax.recordings.simulator import simulate_night
from tests.corpus.drawn_samples import Bytes, DrawnCorpus

DATA = DataConfig(text_length=200, pair_probability=0.2, channel_dropout=0.2)
STAGE = CAPTION_KINDS.index("stage_event")


def same(one, two):
    return all(np.array_equal(one[name], two[name]) for name in one)


@pytest.fixture(scope="module")
def nights(corpus_folder, corpus):
    files = [read_night(path) for path in sorted((corpus_folder / "nights").glob("*.npz"))]
    signals = {
        file.recording: dequantise(np.concatenate(list(file.signals), axis=1), file.spec.channels)
        for file in files
    }
    return {file.recording: replace(file, signals=signals[file.recording]) for file in files}


def window_of(row, stored, night, spec):
    """Where in the night, s, the row's signal lies; None where that is its own epoch."""
    shown = row["channel_mask"]
    plain = dequantise(stored["signal"], spec.channels)
    if np.array_equal(plain[shown], row["signal"][shown]):
        return None
    one = np.flatnonzero(shown)[0]
    zero, half = stored["epoch"] * spec.samples, spec.rate // 2
    starts = [
        start for start in range(zero - spec.samples + half, zero + spec.samples, half)
        if start >= 0
        and np.array_equal(night.signals[one, start : start + spec.samples], row["signal"][one])
        and np.array_equal(night.signals[shown, start : start + spec.samples], row["signal"][shown])
    ]
    assert len(starts) == 1
    return starts[0] / spec.rate


def scored_within(night, start, seconds):
    """What the scorer's events and stages say of the window, from the night file itself."""
    events = []
    for event in night.events:
        kind = RECORD_KINDS.get(event["kind"], event["kind"])
        begin = max(event["onset"] - start, 0)
        until = min(event["onset"] + event["duration"] - start, seconds)
        if kind is None or until - begin < 0.05:
            continue
        assert until - begin >= min(LEAST_PART, event["duration"]) - 0.1  # else it is not shifted
        events.append({
            "kind": kind, "onset": round(begin, 1), "end": round(until, 1),
            "channel": event["channel"],
        })
    return events


def test_what_is_said_of_a_shifted_sample_is_what_was_scored_within_it(corpus, tokenizer, nights):
    loader = Loader(corpus, "train", tokenizer, replace(DATA, time_shift=15.0), seed=4)
    plain = Loader(corpus, "train", tokenizer, DATA, seed=4)
    source, spec = corpus.source("train"), corpus.spec
    scored = {(s["recording"], s["epoch"]): set(s["record"]["scored"])
              for s in (source[i] for i in range(len(source)))}
    shifts, with_events = [], 0
    for index in range(300):
        row, before = loader.sample(index), plain.sample(index)
        stored = source[int(row["index"])]
        night = nights[stored["recording"]]
        start = window_of(row, stored, night, spec)
        if start is None:
            assert same(row, before)
            continue
        assert np.flatnonzero(before["kinds"]).tolist() == [STAGE]  # nothing else can be moved
        first = int(start // spec.seconds)
        assert night.stages[first] == night.stages[first + 1] == row["stage"]
        shown = [c for c, there in zip(spec.channels, row["channel_mask"]) if there]
        events = scored_within(night, start, spec.seconds)
        said = parse(row["caption"])["stage_event"]
        bare = {"stage": stored["record"]["stage"], "measurements": [], "missing": [],
                "stand_ins": [], "scored": [], "events": events}
        wanted = stated(grounded_for(bare, shown, spec.rate), "stage_event", None)
        assert (said["stage"], said["events"]) == (wanted["stage"], wanted["events"])
        if said["none_of"]:
            denied = set(said["none_of"])
            assert not any(denied & set(GROUPS_OF_EVENT.get(e["kind"], ())) for e in events)
            for epoch in (first, first + 1):  # and both were scored for it
                assert denied <= scored[stored["recording"], epoch]
        contents = dict.fromkeys(CAPTION_KINDS) | {"stage_event": said}
        np.testing.assert_array_equal(row["keys"], keys_of(contents))
        both = night.mask[first] & night.mask[first + 1]
        assert not (row["channel_mask"] & ~both).any()
        shifts.append(start - stored["epoch"] * spec.seconds)
        with_events += bool(events)
    assert len(shifts) > 45 and with_events > 4
    assert max(shifts) <= 15 and min(shifts) >= -15 and len(set(shifts)) > 20
    assert min(shifts) < -5 and max(shifts) > 5


def test_changes_are_the_same_wherever_a_sample_is_made(corpus, tokenizer):
    data = replace(DATA, time_shift=10.0, gain_jitter=0.3)
    loader = Loader(corpus, "train", tokenizer, data, seed=4)
    whole = loader.batch(2, 12)
    for size, step in ((4, 6), (6, 4), (3, 8)):
        part = loader.batch(step, size)
        assert all(np.array_equal(part[name], whole[name][:size]) for name in whole)
    threads = Loader(corpus, "train", tokenizer, replace(data, workers=3), seed=4)
    assert same(next(threads.iterate(2, 12)), whole)


def event(onset, end, kind="arousal", came=False, goes=False):
    return {"kind": kind, "onset": onset, "end": end, "channel": None, "continues_from": came,
            "continues_into": goes}


def test_an_event_across_the_border_becomes_one():
    joined = joined_events(
        [event(2.0, 5.0), event(25.0, 30.0, goes=True)],
        [event(0.0, 4.5, came=True), event(10.0, 12.0)], 30,
    )
    assert [(e["onset"], e["end"]) for e in joined] == [(2.0, 5.0), (25.0, 34.5), (40.0, 42.0)]
    within = window_events(joined, 20.0, 30)
    assert [(e["onset"], e["end"]) for e in within] == [(5.0, 14.5), (20.0, 22.0)]
    assert not any(e["continues_from"] or e["continues_into"] for e in within)
    cut = window_events(joined, 28.0, 30)
    assert [(e["onset"], e["end"], e["continues_from"]) for e in cut] == [
        (0.0, 6.5, True), (12.0, 14.0, False),
    ]


@pytest.mark.parametrize(
    "first, second",
    [
        ([event(29.0, 30.0, goes=True)], []),  # too short in the second to be stated there
        ([], [event(0.0, 4.0, came=True)]),
        ([event(20.0, 30.0, goes=True)], [event(0.0, 4.0, "hypopnea", came=True)]),
        ([event(20.0, 30.0, goes=True), event(25.0, 30.0, goes=True)],
         [event(0.0, 4.0, came=True), event(0.0, 6.0, came=True)]),
    ],
)
def test_an_event_whose_extent_is_not_known_forbids_the_shift(first, second):
    assert joined_events(first, second, 30) is None


def test_an_event_of_which_too_little_is_left_forbids_the_shift():
    assert LEAST_PART == measure.LEAST_PART
    assert window_events([event(5.0, 20.0)], 19.5, 30) is None
    assert window_events([event(5.0, 20.0)], 20.0, 30) == []
    assert window_events([event(5.0, 5.6)], 1.0, 30)[0]["onset"] == 4.0  # short, but whole


def test_a_gain_spares_channels_of_which_the_text_states_a_size():
    plain = Loader(DrawnCorpus(), "train", Bytes(), DATA, seed=5)
    jittered = Loader(DrawnCorpus(), "train", Bytes(), replace(DATA, gain_jitter=0.5), seed=5)
    channels, spared = DrawnCorpus().spec.channels, 0
    for index in range(150):
        one, two = plain.sample(index), jittered.sample(index)
        assert one["caption"] == two["caption"]
        read = parse(two["caption"])
        for kind in np.flatnonzero(two["kinds"]):
            for name, said in read[CAPTION_KINDS[kind]].get("channels", {}).items():
                if SIZED.isdisjoint(said):
                    continue
                for channel in CHANNEL_PAIRS.get(name, (name,)):
                    if channel in channels:
                        place = channels.index(channel)
                        np.testing.assert_array_equal(two["signal"][place], one["signal"][place])
                        spared += 1
        for kind in np.flatnonzero(two["kinds"]):
            assert one["keys"][kind] == two["keys"][kind]  # what is said stays comparable
    assert spared > 30


def test_keys_of_a_changed_signal_state_no_size_of_it():
    data = replace(DATA, channel_dropout=0.0, pair_probability=0.0)
    jittered = Loader(DrawnCorpus(), "train", Bytes(), replace(data, gain_jitter=0.5), seed=5)
    source, spec, told = DrawnCorpus().source("train"), DrawnCorpus().spec, 0
    for index in range(60):
        row = jittered.sample(index)
        drawn = [CAPTION_KINDS[kind] for kind in np.flatnonzero(row["kinds"])]
        if drawn != ["stage_event"]:
            continue
        shown = [c for c, there in zip(spec.channels, row["channel_mask"]) if there]
        record = source[int(row["index"])]["record"]
        bare = record | {
            "measurements": [m for m in record["measurements"] if m["feature"] not in SIZED]
        }
        contents = {
            kind: stated(bare, kind, replace(spec, channels=tuple(shown))) for kind in CAPTION_KINDS
        }
        np.testing.assert_array_equal(row["keys"], keys_of(contents))
        told += 1
    assert told > 10


@pytest.mark.slow
def test_what_another_amplitude_changes_when_measured_again_is_what_counts_as_a_size(tmp_path):
    """Blocks of ten epochs are scaled; inner ones are compared, away from filters' edges."""
    night = prepare_night(simulate_night(tmp_path, 3, 1.0, 11))
    alike = ("POS", "HR", "SpO2", "SNORE")
    plain, changed, compared = measure_night(night), set(), set()

    def measured(record):
        found = {}
        for m in record["measurements"]:
            if m["feature"] in DECIMALS:
                value = round(m["value"], max(DECIMALS[m["feature"]], 0))
                found.setdefault((m["feature"], m["channel"]), []).append((value, *m["interval"]))
        return found

    for gain in (0.67, 1.5):
        traces = {}
        for name, trace in night.traces.items():
            block = (np.arange(len(trace.values)) / trace.rate // 300).astype(int)
            factor = np.where((block % 2 == 1) & (name not in alike), gain, 1)
            traces[name] = replace(trace, values=(trace.values * factor).astype(np.float32))
        again = measure_night(dataclasses.replace(night, traces=traces))
        for epoch, (one, two) in enumerate(zip(plain, again, strict=True)):
            if epoch // 10 % 2 == 1 and epoch % 10 in range(1, 9):
                one, two = measured(one), measured(two)
                for key in one.keys() | two.keys():
                    compared.add(key[0])
                    if one.get(key) != two.get(key):
                        changed.add(key[0])
    assert changed <= SIZED and {"muscle_tone", "breath_amplitude", "slow_wave_count"} <= changed
    assert {"delta_power", "heart_rate_mean", "respiratory_rate"} <= compared - SIZED


def test_montages_are_kept_whole_where_a_sample_has_them():
    keep = ("C3,C4", "ECG", "EOG-L,EOG-R,C3")
    data = replace(DATA, channel_dropout=1.0, dropout_keep=keep, mask_artefacts=())
    loader = Loader(DrawnCorpus(), "train", Bytes(), data, seed=5)
    source, channels = DrawnCorpus().source("train"), DrawnCorpus().spec.channels
    kept = set()
    for index in range(150):
        row = loader.sample(index)
        there = set(itertools.compress(channels, source[int(row["index"])]["mask"]))
        shown = set(itertools.compress(channels, row["channel_mask"]))
        wanted = [there & set(montage.split(",")) for montage in keep]
        assert shown in wanted or shown == there  # where none of the drawn montage is there
        kept.add(frozenset(shown))
    assert {frozenset(montage.split(",")) for montage in keep} <= kept
