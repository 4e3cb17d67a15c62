"""Artefacts planted where we know them, in drawn, simulated and real traces; clean ones stay clean.

Truth is what was planted, epoch by epoch and channel by channel; nothing is compared with what the
detectors said yesterday.
"""

from dataclasses import replace

import numpy as np
import pytest
from scipy import signal

from sleeplm_jax.config import ARTEFACTS, CANONICAL_CHANNELS
from sleeplm_jax.physiology.artefacts import find_artefacts, mark_artefacts
from sleeplm_jax.physiology.measure import measure_night
from sleeplm_jax.physiology.seconds import by_second
from sleeplm_jax.recordings.night import Trace
from sleeplm_jax.recordings.prepare import prepare_night
from tests.physiology.nights import drawn_night
from tests.recordings import edf_files

RATE = 200.0
EPOCHS = 12
HIT = 5  # the epoch that artefacts are planted in


def traces(epochs=EPOCHS, seed=0):
    """A quiet sleeper: 1/f EEG of 15 µV, muscle noise, a beat every 0.93 s, 15 breaths a minute."""
    rng = np.random.default_rng(seed)
    count = int(epochs * 30 * RATE)
    time = np.arange(count) / RATE
    low = signal.butter(1, 2.0, fs=RATE, output="sos")

    def brain(scale):
        slow = signal.sosfilt(low, rng.standard_normal(count))
        return scale * (slow / slow.std() + 0.1 * rng.standard_normal(count))

    beat = (time + 0.4) % 0.93 - 0.465
    made = {
        "ECG": (1000 * np.exp(-0.5 * (beat / 0.012) ** 2) + 8 * rng.standard_normal(count), RATE),
        "EOG-L": (brain(15), RATE), "EOG-R": (brain(15), RATE),
        "C3": (brain(15), RATE), "C4": (brain(15), RATE),
        "EMG": (4 * rng.standard_normal(count), RATE),
        "SpO2": (np.full(epochs * 30, 96.0), 1.0), "HR": (np.full(epochs * 30, 64.5), 1.0),
    }
    breaths = np.arange(epochs * 30 * 16) / 16
    for name, phase in (("THX", 0.0), ("ABD", 0.3), ("AF", 1.57)):
        wave = np.sin(2 * np.pi * 0.25 * breaths + phase)
        made[name] = (wave + 0.02 * rng.standard_normal(len(wave)), 16.0)
    return {name: Trace(v.astype(np.float32), r, "µV") for name, (v, r) in made.items()}


def changed(trace, start, stop, change):
    """`trace` with `change(piece, time)` from `start` to `stop` s of epoch HIT."""
    values = trace.values.copy()
    first, last = (int((HIT * 30 + t) * trace.rate) for t in (start, stop))
    values[first:last] = change(values[first:last], np.arange(last - first) / trace.rate)
    return replace(trace, values=values)


def marks(found):
    """{(channel, reason, epoch)} of a uint8 mask."""
    return {
        (channel, reason, int(epoch))
        for c, channel in enumerate(CANONICAL_CHANNELS) for i, reason in enumerate(ARTEFACTS)
        for epoch in np.flatnonzero((found[:, c] >> i) & 1)
    }


def planted(channel, start, stop, change):
    made = traces()
    made[channel] = changed(made[channel], start, stop, change)
    return marks(find_artefacts(drawn_night(EPOCHS, traces=made)))


def test_a_quiet_night_has_none():
    assert marks(find_artefacts(drawn_night(EPOCHS, traces=traces()))) == set()


@pytest.mark.parametrize("channel", ["C3", "EOG-R", "EMG", "ECG"])
def test_a_lead_that_is_flat_for_a_third_of_an_epoch(channel):
    found = planted(channel, 2, 14, lambda x, t: np.full_like(x, x[0]))
    assert found == {(channel, "flat", HIT)}
    assert planted(channel, 2, 8, lambda x, t: np.full_like(x, x[0])) == set()


def test_a_lead_that_is_off():
    assert planted("C3", 0, 30, lambda x, t: 0.002 * x) == {("C3", "lead_off", HIT)}
    drift = np.random.default_rng(1)
    loud = planted("C4", 0, 30, lambda x, t: 90 * np.cumsum(drift.standard_normal(len(x))))
    assert ("C4", "lead_off", HIT) in loud
    assert {(c, e) for c, _, e in loud} == {("C4", HIT)}


def test_an_open_input_is_off_and_all_mains():
    found = planted("EOG-L", 0, 30, lambda x, t: x + 400 * np.sin(2 * np.pi * 50 * t))
    assert found == {("EOG-L", "lead_off", HIT), ("EOG-L", "mains", HIT)}


@pytest.mark.parametrize("line", [50, 60])
@pytest.mark.parametrize("channel", ["C3", "EMG"])
def test_mains_that_are_half_of_the_power(line, channel):
    """A sine of amplitude a has power a²/2: one third, then three times, that of the signal."""
    power = float(traces()[channel].values.var())
    few, many = (np.sqrt(2 * power * share) for share in (1 / 3, 3))
    assert planted(channel, 0, 30, lambda x, t: x + few * np.sin(2 * np.pi * line * t)) == set()
    found = planted(channel, 0, 30, lambda x, t: x + many * np.sin(2 * np.pi * line * t))
    assert found == {(channel, "mains", HIT)}


@pytest.mark.parametrize("channel", ["C3", "EOG-L"])
def test_a_pop_is_a_jump_that_decays_slowly(channel):
    found = planted(channel, 10, 14, lambda x, t: x + 500 * np.exp(-t / 0.8))
    assert found == {(channel, "pop", HIT)}


def test_spikes_slow_waves_and_eye_movements_are_no_pops():
    def spike(x, t):  # 300 µV, 40 ms wide, and back
        return x + 300 * np.exp(-0.5 * ((t - 1) / 0.01) ** 2)

    def k_complex(x, t):  # 250 µV within 0.5 s, as large as they come
        return x + 250 * np.sin(2 * np.pi * t) * (t < 1)

    for change in (spike, k_complex):
        assert not {m for m in planted("C3", 10, 13, change) if m[1] == "pop"}
    made = traces()  # both eyes jump 300 µV in 15 ms, the one up, the other down
    for channel, sign in (("EOG-L", 1), ("EOG-R", -1)):
        made[channel] = changed(made[channel], 10, 12, lambda x, t, sign=sign: x + sign * 300)
    assert marks(find_artefacts(drawn_night(EPOCHS, traces=made))) == set()


def body_moves(made, channels, start=8, stop=18):
    rng = np.random.default_rng(3)
    for channel in channels:
        size = 60 if channel == "EMG" else 80
        made[channel] = changed(
            made[channel], start, stop, lambda x, t, size=size:
            x + size * rng.standard_normal(len(x)) + 2 * size * np.sin(2 * np.pi * 0.7 * t),
        )
    return made


def test_a_moving_body_is_seen_in_the_channels_it_reaches():
    night = drawn_night(EPOCHS, traces=body_moves(traces(), ("C3", "C4", "EMG")))
    assert marks(find_artefacts(night)) == {
        (channel, "movement", HIT) for channel in ("C3", "C4", "EMG")
    }
    # A tense chin alone is muscle tone, and a short burst is an arousal's.
    alone = drawn_night(EPOCHS, traces=body_moves(traces(), ("EMG",)))
    assert marks(find_artefacts(alone)) == set()
    short = drawn_night(EPOCHS, traces=body_moves(traces(), ("C3", "EMG"), 8, 11))
    assert marks(find_artefacts(short)) == set()


def test_lost_samples_and_readings_no_person_has():
    lost = planted("C3", 3, 8, lambda x, t: np.full_like(x, np.nan))
    assert lost == {("C3", "dropout", HIT)}
    for value in (0.0, 127.0):
        assert planted("SpO2", 2, 15, lambda x, t, v=value: np.full_like(x, v)) == {
            ("SpO2", "dropout", HIT)
        }
    assert planted("SpO2", 2, 15, lambda x, t: np.full_like(x, 62.0)) == set()  # deep, and real
    assert planted("HR", 0, 20, lambda x, t: np.zeros_like(x)) == {("HR", "dropout", HIT)}


def test_a_trace_that_ends_early_is_lost_there():
    made = traces()
    made["C4"] = replace(made["C4"], values=made["C4"].values[: int(10.5 * 30 * RATE)])
    found = marks(find_artefacts(drawn_night(EPOCHS, traces=made)))
    assert found == {("C4", "dropout", 10), ("C4", "dropout", 11)}


def test_the_heart_in_an_eeg():
    made = traces()
    ecg = made["ECG"].values
    made["C3"] = changed(made["C3"], 0, 30, lambda x, t: x + 0.08 * ecg[
        int(HIT * 30 * RATE) : int((HIT + 1) * 30 * RATE)])
    assert marks(find_artefacts(drawn_night(EPOCHS, traces=made))) == {("C3", "ecg", HIT)}


def test_a_belt_without_breath_for_minutes_is_off_and_an_apnoea_is_not():
    def still(start, stop):
        made = traces(16)
        values = made["AF"].values.copy()
        values[int(start * 16) : int(stop * 16)] *= 1e-3
        made["AF"] = replace(made["AF"], values=values)
        return marks(find_artefacts(drawn_night(16, traces=made)))

    assert still(160, 240) == set()  # 80 s
    off = still(120, 270)  # five epochs
    assert off == {("AF", "lead_off", epoch) for epoch in (4, 5, 6, 7, 8)}


def test_samples_at_the_files_limits_are_clipped(tmp_path):
    """Written as an EDF whose range the second channel leaves for 2 s of its third epoch."""
    time = np.arange(240 * 200) / 200
    rng = np.random.default_rng(0)
    clean = 20 * rng.standard_normal(len(time))
    loud = clean + 300 * np.sin(2 * np.pi * 1.0 * time) * ((time >= 65) & (time < 69))
    path = edf_files.write(tmp_path / "rail.edf", [
        edf_files.signal("C4-M1", clean, 200, bound=200),
        edf_files.signal("C3-M2", np.clip(loud, -200, 200), 200, bound=200),
    ])  # fmt: skip
    night = prepare_night(path)
    found = {(c, r, e) for c, r, e in marks(find_artefacts(night)) if r == "clipped"}
    assert found == {("C3", "clipped", 2)}
    railed = night.traces["C3"].railed
    at = np.abs(np.clip(loud, -200, 200)) >= 199.99
    wanted = at.reshape(-1, 200).mean(axis=1)
    np.testing.assert_allclose(railed, wanted, atol=1 / 200)  # a step at the limit's edge


def test_flat_tops_inside_the_files_range_are_clipped():
    found = planted("C3", 4, 12, lambda x, t: np.clip(12 * x, -120, 120))
    assert ("C3", "clipped", HIT) in found


def test_what_is_marked_is_not_measured_but_a_chin_that_moves_is():
    made = body_moves(traces(), ("C3", "EMG"))
    made["C4"] = changed(made["C4"], 0, 30, lambda x, t: 0.002 * x)
    plain = drawn_night(EPOCHS, traces=made)
    night = mark_artefacts(plain)
    assert night.artefacts.shape == (EPOCHS, len(CANONICAL_CHANNELS))
    records = measure_night(night)
    for epoch, record in enumerate(records):
        channels = {m["channel"] for m in record["measurements"]}
        assert "EMG" in channels
        for channel in ("C3", "C4"):
            assert (channel in channels) == (epoch != HIT)
            assert (channel in record["missing"]) == (epoch == HIT)
    assert mark_artefacts(night) is night


def test_statistics_by_second_are_those_of_the_samples():
    trace = traces(epochs=25)["C3"]  # longer than one stretch
    made = by_second(trace, 750)
    blocks = trace.values.reshape(750, -1)
    np.testing.assert_array_equal(made.high, blocks.max(axis=1))
    np.testing.assert_array_equal(made.low, blocks.min(axis=1))
    # Parseval: all power but the mean's, within what a Hann window loses at a second's edges.
    assert made.wide.mean() == pytest.approx(blocks.var(axis=1).mean(), rel=0.1)


@pytest.mark.parametrize("rate", [128.0, 199.5, 512.0])
def test_a_mains_sine_has_its_power_at_any_rate(rate):
    time = np.arange(int(30 * rate)) / rate
    rng = np.random.default_rng(2)
    values = 10 * np.sin(2 * np.pi * 50 * time) + rng.standard_normal(len(time))
    found = by_second(Trace(values.astype(np.float32), rate, "µV"), 30).mains[50]
    assert np.median(found) == pytest.approx(50, rel=0.03)  # a²/2; the floor is taken off


# ---- Simulated and real recordings


def shares(night):
    found = find_artefacts(night)
    return {c: float((found[:, CANONICAL_CHANNELS.index(c)] != 0).mean()) for c in night.traces}


def test_simulated_sleep_is_mostly_clean_and_what_is_planted_in_it_is_found(simulated_folder):
    night = prepare_night(simulated_folder / "sim-3-0001.edf")
    assert max(shares(night).values()) <= 0.15  # half an hour, much of it awake
    before = marks(find_artefacts(night))
    for channel, reason, change in (
        ("C4", "flat", lambda x, t: np.full_like(x, x[0])),
        ("C3", "pop", lambda x, t: x + 800 * np.exp(-t)),
        ("EMG", "mains", lambda x, t: x + 200 * np.sin(2 * np.pi * 50 * t)),
        ("SpO2", "dropout", lambda x, t: np.zeros_like(x)),
    ):
        trace = changed(night.traces[channel], 5, 25, change)
        after = marks(find_artefacts(replace(night, traces=night.traces | {channel: trace})))
        assert (channel, reason, HIT) in after - before
        assert {(c, e) for c, _, e in after - before} == {(channel, HIT)}


@pytest.fixture(scope="module")
def ucddb(psg):
    path = psg / "ucddb_eeg" / "ucddb018_eeg.edf"
    if not path.exists():
        pytest.skip(f"{path.name} is not there")
    return prepare_night(path)


@pytest.mark.parametrize(("name", "most"), [
    ("rsleep_nox/subject1.edf", 0.0), ("edfio_sleepedf_short/short_psg.edf", 0.0),
    ("ucddb_eeg/ucddb018_eeg.edf", 0.02),
])  # fmt: skip
def test_real_recordings_lose_little(psg, name, most):
    path = psg / name
    if not path.exists():
        pytest.skip(f"{path.name} is not there")
    assert max(shares(prepare_night(path)).values()) <= most


def test_fourteen_minutes_of_real_eye_movements_hold_no_artefact(psg):
    path = psg / "yasa" / "data_EOGs_REM_256Hz.npz"
    if not path.exists():
        pytest.skip(f"{path.name} is not there")
    with np.load(path) as found:
        eyes = found["data"].astype(np.float32)
    epochs = int(eyes.shape[1] / 256 / 30)
    night = drawn_night(epochs, traces={
        "EOG-L": Trace(eyes[0], 256.0, "µV"), "EOG-R": Trace(eyes[1], 256.0, "µV"),
    })  # fmt: skip
    assert marks(find_artefacts(night)) == set()


def test_movement_in_a_real_night_is_where_it_is_loudest(ucddb):
    found = find_artefacts(ucddb)[:, CANONICAL_CHANNELS.index("C3")]
    moved = np.flatnonzero((found >> ARTEFACTS.index("movement")) & 1)
    values = ucddb.traces["C3"].values
    blocks = values[: len(ucddb.stages) * 3840].reshape(-1, 3840)
    fast = np.abs(np.diff(blocks, axis=1)).max(axis=1)  # independent: the steepest sample
    assert 1 <= len(moved) <= 20
    assert (fast[moved] > np.quantile(fast, 0.8)).all()


def test_what_is_planted_in_a_real_night_is_found(ucddb):
    before = marks(find_artefacts(ucddb))
    trace = ucddb.traces["C3"]
    values = trace.values.copy()
    size = float(np.median(np.ptp(values[: 800 * 3840].reshape(-1, 128), axis=1)))
    time = np.arange(3840) / 128

    def piece(epoch):
        return values[epoch * 3840 : (epoch + 1) * 3840]

    piece(400)[:] = piece(400)[0]
    piece(450)[:] += 3 * size * np.sin(2 * np.pi * 50 * time)
    piece(500)[1000:] += 8 * size * np.exp(-time[: 3840 - 1000] / 0.5)
    piece(550)[:] *= 0.001
    piece(600)[500:1500] = np.nan
    night = replace(ucddb, traces={"C3": replace(trace, values=values)})
    after = marks(find_artefacts(night))
    found = {(reason, epoch) for _, reason, epoch in after - before}
    assert {("flat", 400), ("mains", 450), ("pop", 500), ("lead_off", 550),
            ("dropout", 600)} <= found
    assert {epoch for _, epoch in found} <= {400, 450, 500, 550, 600}
    assert before <= after
