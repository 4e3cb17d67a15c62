"""Linking and AHI by rule: against the tutorial nights' files read by other means, and by hand."""

import dataclasses
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from sleeplm_jax.config import UNSCORED
from sleeplm_jax.physiology.event_indices import event_indices, periodic_movements
from sleeplm_jax.physiology.respiratory_events import (
    RULES,
    Windows,
    ahi_by_rule,
    link_events,
    measured_depth,
)
from sleeplm_jax.physiology.sleep_time import sleep_time
from sleeplm_jax.recordings.night import Event, Trace
from sleeplm_jax.recordings.scoring import read_scoring

NIGHTS = ("learn-nsrr01", "learn-nsrr02", "learn-nsrr03")
# Counted by `counted` below, not by the package; written down so that a change of either shows:
# events in sleep under each of RULES (apnoeas with them), events wholly outside sleep, apnoeas.
COUNTS = {
    "learn-nsrr01": ((387, 107, 148, 73), 11, 37),
    "learn-nsrr02": ((105, 50, 50, 33), 1, 5),
    "learn-nsrr03": ((345, 318, 323, 298), 0, 164),
}


def counted(path):
    """The counts of COUNTS, from the XML by loops, using what the package does not know.

    In these files (SHHS, converted by a later Compumedics program) every desaturation is a copy of
    its respiratory event, 30.0 s later and of the same duration: who belongs to whom is written in
    them, and no window or lag is needed to find it.
    """
    root = ElementTree.parse(path).getroot()
    stages = [element.text for element in root.find("SleepStages")]
    breaths, falls, arousals = [], {}, []
    for element in root.find("ScoredEvents"):
        name = element.find("Name").text
        start, length = float(element.find("Start").text), float(element.find("Duration").text)
        if name == "Hypopnea" or name.endswith("Apnea"):
            breaths.append((name, start, length))
        elif name == "SpO2 desaturation":
            falls[round(10 * start), round(10 * length)] = int(element.find("Desaturation").text)
        elif name.startswith("Arousal"):
            arousals.append(round(10 * start))
    rules, outside, apneas, found = [0, 0, 0, 0], 0, 0, 0
    for name, start, length in breaths:
        depth = falls.get((round(10 * (start + 30)), round(10 * length)))
        found += depth is not None
        touched = range(int(start // 30), int((start + length - 1e-6) // 30) + 1)
        if not any(stages[epoch] in "12345" for epoch in touched):
            outside += 1
            continue
        end = round(10 * (start + length))
        aroused = any(end <= arousal < end + 50 for arousal in arousals)
        apnea = name != "Hypopnea"
        apneas += apnea
        rules[0] += 1
        rules[1] += apnea or (depth is not None and depth >= 3)
        rules[2] += apnea or aroused or (depth is not None and depth >= 3)
        rules[3] += apnea or (depth is not None and depth >= 4)
    asleep = sum(stage in "12345" for stage in stages)
    return tuple(rules), outside, apneas, found, len(falls), asleep / 120


@pytest.mark.parametrize("name", NIGHTS)
def test_tutorial_nights_give_the_counts_of_every_rule(psg, name):
    path = psg / "nsrr_xml" / f"{name}.xml"
    rules, outside, apneas, linked, falls, hours = counted(path)
    assert (rules, outside, apneas) == COUNTS[name]
    assert linked == falls  # the independent reading finds every desaturation's event
    scored = read_scoring(path, None)
    time = sleep_time(scored.stages)
    found = ahi_by_rule(scored.events, time)
    assert list(found) == [rule.name for rule in RULES]
    assert tuple(result["events"] for result in found.values()) == rules
    for result, count in zip(found.values(), rules):
        assert result["why_not"] is None and result["outside_sleep"] == outside
        assert (result["apneas"], result["hypopneas"]) == (apneas, count - apneas)
        assert result["value"] == pytest.approx(count / hours, abs=0.005)  # two decimals
        parts = result["splits"]
        assert parts["nrem"]["events"] + parts.get("rem", {"events": 0})["events"] == count
        assert "supine" not in parts  # no position in a scoring


@pytest.mark.parametrize("name", NIGHTS)
def test_every_desaturation_of_the_tutorial_nights_is_linked_to_its_own_event(psg, name):
    """572 of 572; the first one in the window would be another event's in many cases."""
    scored = read_scoring(psg / "nsrr_xml" / f"{name}.xml", None)
    linked = [link for link in link_events(scored.events) if link.desaturation is not None]
    assert len(linked) == sum(event.kind == "desaturation" for event in scored.events)
    for link in linked:
        assert link.desaturation.onset == pytest.approx(link.event.onset + 30, abs=0.01)
        assert link.desaturation.duration == pytest.approx(link.event.duration, abs=0.01)


def breath(onset, duration=20.0, kind="hypopnea", **more):
    return Event(kind, onset, duration, **more)


def fall(onset, depth, duration=20.0):
    return Event("desaturation", onset, duration, depth=depth)


def arousal(onset, duration=5.0):
    return Event("arousal", onset, duration)


def n2(epochs=40):
    return sleep_time(np.full(epochs, 2, np.int8))


def values(events, time=None, **more):
    found = ahi_by_rule(events, n2() if time is None else time, **more)
    return [result["events"] for result in found.values()]


def test_each_rule_takes_what_it_says():
    """A row of hypopnoeas: 4 %, 3 %, 2 % with arousal, 2 %, bare, and an apnoea without either."""
    events = [
        breath(60), fall(80, 4), breath(160), fall(180, 3), breath(260), fall(280, 2),
        arousal(281), breath(360), fall(380, 2), breath(460),
        breath(560, kind="central_apnea"),
    ]
    assert values(events) == [6, 3, 4, 2]


@pytest.mark.parametrize(
    "text, counts",
    [("Apnea", 1), ("Apnoea", 1), ("apnée", 1), ("Apnea|APNEA", 1), ("SDO:ApneaFinding", 1),
     ("hypopnoea-like, no apnea seen", 0), ("Snoring", 0), (None, 0)],
)  # fmt: skip
def test_an_apnoea_of_no_kind_is_an_apnoea(text, counts):
    events = [Event("other", 60, 20, text=text), breath(200), fall(220, 2), arousal(900)]
    found = ahi_by_rule(events, n2())
    assert [one["apneas"] for one in found.values()] == [counts] * 4
    assert found["4_percent"]["events"] == counts


def test_the_arousal_window_is_0_to_4_9_s_after_the_end():
    """SHHS manual 6.6.1; the events end at 80.0 s."""
    fallen = [breath(60), fall(62, 1)]
    for onset, counts in ((79.9, 0), (80.0, 1), (84.9, 1), (85.0, 0)):
        assert values([*fallen, arousal(onset)])[2] == counts, onset
    wider = Windows(arousal_before=5.0)
    assert values([*fallen, arousal(79.9)], windows=wider)[2] == 1


def test_the_desaturation_window_ends_30_s_after_the_event():
    for onset, counts in ((59.9, 0), (60.0, 1), (110.0, 1), (110.1, 0)):
        assert values([breath(60), fall(onset, 5)])[1] == counts, onset


def test_a_desaturation_belongs_to_one_event_and_lags_like_the_others():
    """Simulated: events every 25 s, the fall 30 s after the onset, so in the next event's window.

    The events without a fall (every third) must not take their neighbours'.
    """
    events, truth = [], []
    for i in range(60):
        event = breath(100 + 25 * i + 3 * (i % 4), 15)
        events.append(event)
        truth.append(None if i % 3 == 2 else fall(event.onset + 30 + (i % 5) - 2, 4, 15))
    falls = [one for one in truth if one is not None]
    lone = breath(3000, 15)  # far from the row: what tells the night's lag
    events.append(lone)
    truth.append(fall(3030, 4, 15))
    linked = link_events([*events, *falls, truth[-1]])
    assert [link.desaturation for link in linked] == truth


def test_an_event_counts_where_it_touches_sleep():
    stages = np.zeros(40, np.int8)
    stages[10:20] = 2  # asleep from 300 to 600 s
    stages[15:20] = 4
    time = sleep_time(stages)
    outside = [breath(200), breath(270, 29), breath(601)]  # 270 to 299 s ends before sleep
    inside = [breath(290), breath(440), breath(590, 30)]
    found = ahi_by_rule([*outside, *inside], time)["all_events"]
    assert (found["events"], found["outside_sleep"]) == (3, 3)
    assert found["value"] == pytest.approx(3 / (300 / 3600))
    # 440 s: begins in N2 and reaches into R: the first epoch decides.
    hours = pytest.approx(1 / 24, abs=1e-4)
    assert found["splits"]["nrem"] == {"value": 48.0, "events": 2, "hours": hours}
    assert found["splits"]["rem"]["events"] == 1


def test_events_outside_lights_do_not_count():
    time = sleep_time(np.full(40, 2, np.int8), lights_off_s=300, lights_on_s=900)
    assert values([breath(100), breath(400), breath(1000)], time)[0] == 1
    assert time.hours() == pytest.approx(600 / 3600)


def test_position_splits_the_index():
    code = np.repeat([2.0, 0.0, -1.0], 20 * 30)  # supine, right side, unknown; 20 epochs each
    time = sleep_time(np.full(60, 2, np.int8), position=Trace(code, 1.0, "code"))
    found = ahi_by_rule([breath(100), breath(200), breath(700), breath(1300)], time)["all_events"]
    assert found["events"] == 4
    assert found["splits"]["supine"]["events"] == 2
    assert found["splits"]["non_supine"] == {
        "value": 6.0, "events": 1, "hours": pytest.approx(1 / 6, abs=1e-4)
    }


def test_what_the_scoring_cannot_say_is_not_a_number():
    def why(events, time=None, **more):
        found = ahi_by_rule(events, n2() if time is None else time, **more)
        assert all((one["value"] is None) == bool(one["why_not"]) for one in found.values())
        return [result["why_not"] for result in found.values()]

    assert why([arousal(60)]) == 4 * ["no apnoeas or hypopnoeas scored"]
    bare = [breath(60), breath(160)]
    assert why(bare) == [None] + 3 * ["no desaturations scored and no SpO2"]
    assert why([*bare, fall(80, 4)])[1:] == [None, "no arousals scored", None]
    depthless = [*bare, fall(80, None), arousal(400)]
    assert why(depthless)[1:] == 3 * ["1 desaturations after hypopnoeas have no depth"]
    vague = [dataclasses.replace(breath(60), timed=False), breath(160)]
    assert all("their epoch alone" in text for text in why(vague))
    assert link_events(vague)[0].event.onset == 160  # and nothing is linked to the other
    assert set(why(bare, sleep_time(np.zeros(40, np.int8)))) == {"no sleep"}
    assert set(why(bare, sleep_time(np.full(40, UNSCORED, np.int8)))) == {"no sleep"}


def saturation(dips, seconds=1200, rate=1.0):
    """Simulated SpO2 of 97 % with dips (time of nadir, depth) of 20 s."""
    time = np.arange(int(seconds * rate)) / rate
    values = np.full(len(time), 97.0)
    for nadir, depth in dips:
        values -= depth * np.clip(1 - np.abs(time - nadir) / 20, 0, None)
    return Trace(values.astype(np.float32), rate, "%")


@pytest.mark.parametrize("rate", [1.0, 4.0, 10.0])
def test_a_measured_depth_is_that_of_the_trace(rate):
    trace = saturation([(100, 4), (300, 8)], rate=rate)
    assert measured_depth(breath(70), trace) == pytest.approx(4, abs=1e-3)  # nadir 10 s after it
    assert measured_depth(breath(200), trace) == pytest.approx(0, abs=1e-3)
    # A nadir 35 s after the end is outside: what has fallen by 30 s counts, 3/4 of 8 points.
    assert measured_depth(breath(245), trace) == pytest.approx(6, abs=0.1)
    # An earlier fall's nadir at the event's begin is not the event's own.
    assert measured_depth(breath(300), trace) == pytest.approx(0, abs=1e-3)


def test_measured_desaturations_stand_in_only_where_none_is_scored():
    events = [breath(70), breath(270, 20), arousal(500)]
    trace = saturation([(100, 3.5), (300, 8)])
    found = ahi_by_rule(events, n2(), spo2=trace)
    assert [r["events"] for r in found.values()] == [2, 2, 2, 1]
    assert found["3_percent"]["desaturations"] == "measured"
    found = ahi_by_rule([*events, fall(90, 3)], n2(), spo2=trace)
    assert [r["events"] for r in found.values()] == [2, 1, 1, 0]
    assert found["3_percent"]["desaturations"] == "scored"


def test_a_sensor_off_the_finger_measures_nothing():
    trace = saturation([(100, 4)])
    values = trace.values.copy()
    values[60:130] = 0
    assert measured_depth(breath(70), Trace(values, 1.0, "%")) is None
    lost = Trace(values, 1.0, "%")
    found = ahi_by_rule([breath(70)], n2(), spo2=lost)["3_percent"]
    assert found["value"] is None and found["why_not"] == "no usable SpO2 after 1 hypopnoeas"
    many = [breath(200 + 40 * i) for i in range(20)]  # one of 21: the others tell enough
    found = ahi_by_rule([breath(70), *many], n2(), spo2=lost)["3_percent"]
    assert (found["events"], found["unmeasured"]) == (0, 1)


def test_a_scoring_of_more_events_than_a_night_holds_gives_no_number():
    """A damaged file: thousands of events at one time. No hang, no memory, and no index."""
    crowd = [breath(100)] * 3000 + [fall(110, 4)] * 3000
    found = ahi_by_rule(crowd, n2())
    assert all("told apart" in result["why_not"] for result in found.values())


def test_indices_of_the_tutorial_nights(psg):
    """ODI and arousal indices against loops over the file."""
    path = psg / "nsrr_xml" / "learn-nsrr03.xml"
    root = ElementTree.parse(path).getroot()
    asleep = [element.text in "12345" for element in root.find("SleepStages")]
    deep = aroused = arousals = 0
    for element in root.find("ScoredEvents"):
        start, length = float(element.find("Start").text), float(element.find("Duration").text)
        touched = range(int(start // 30), int((start + length - 1e-6) // 30) + 1)
        inside = any(asleep[epoch] for epoch in touched if epoch < len(asleep))
        deep += inside and int(element.findtext("Desaturation") or 0) >= 4
        arousals += element.find("Name").text.startswith("Arousal")
        aroused += inside and element.find("Name").text.startswith("Arousal")
    scored = read_scoring(path, None)
    found = event_indices(scored.events, sleep_time(scored.stages))
    assert found["odi_4_percent"]["events"] == deep > 100
    assert found["arousal_index_in_sleep"]["events"] == aroused > 100
    # A fifth of them lies in epochs scored W: the manual's index counts them, the NSRR's does not.
    assert found["arousal_index_in_bed"]["events"] == arousals > 1.2 * aroused
    assert found["plm_index"]["value"] is None
    assert found["plm_index"]["why_not"] == "no limb movements scored"


def test_arousals_in_epochs_of_wake_count_in_bed_only():
    stages = np.full(40, 2, np.int8)
    stages[10:12] = 0
    time = sleep_time(stages, lights_off_s=60, lights_on_s=1140)
    found = event_indices([arousal(t) for t in (30, 100, 310, 1190)], time)
    assert found["arousal_index_in_bed"]["events"] == 2
    assert found["arousal_index_in_sleep"]["events"] == 1


def movement(onset, duration=2.0, kind="limb_movement"):
    return Event(kind, onset, duration)


def test_series_of_limb_movements():
    row = [movement(100 + 20 * i) for i in range(5)]
    assert periodic_movements(row, []) == row
    assert periodic_movements(row[:3], []) == []
    apart = [*row[:2], movement(231), *[movement(231 + 20 * i) for i in range(1, 4)]]
    assert [e.onset for e in periodic_movements(apart, [])] == [231, 251, 271, 291]  # 111 s apart
    both_legs = sorted([*row, *[movement(e.onset + 1) for e in row]], key=lambda e: e.onset)
    assert periodic_movements(both_legs, []) == row
    assert periodic_movements([movement(100 + 20 * i, 11) for i in range(5)], []) == []
    # The third lies at a breath's end: two and two are left, 40 s apart, still one series.
    near = periodic_movements(row, [breath(130, 11)])
    assert [e.onset for e in near] == [100, 120, 160, 180]


def test_the_plm_index_says_what_it_counts():
    row = [movement(100 + 20 * i) for i in range(5)]
    found = event_indices(row, n2())["plm_index"]
    assert found["events"] == 5 and "series" in found["text"]
    scored = [dataclasses.replace(e, kind="periodic_limb_movement") for e in row[:2]]
    found = event_indices([*scored, *row], n2())["plm_index"]
    assert found["events"] == 2 and "as scored" in found["text"]
