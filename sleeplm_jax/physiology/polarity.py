"""Which way up the ECG and the breathing signals are, as far as a recording can tell.

An ECG whose R waves point down is an inverted lead or a lead (aVR, some chest positions) in which
they do so. Belts and airflow can only be compared with one another: of two belts that move against
each other one is inverted, or the person breathes paradoxically all night; a third signal says
which. When all are turned over together, nothing shows it. Airflow runs a quarter cycle ahead of
the belts (flow is the rate of change of volume), so it is compared with their slope.

E epochs.
"""

from __future__ import annotations

import numpy as np
from scipy import signal

from sleeplm_jax.physiology import heart
from sleeplm_jax.recordings.night import Night, Trace

BREATHS = (0.1, 0.7)  # Hz: 6 to 42 breaths a minute
COMMON_RATE = 4.0  # Hz
AGREE = 0.3  # median correlation of 30-s pieces from which two signals go together, or against
LEAST_PIECES = 20
PIECE_S = 30


def polarity(night: Night) -> dict:
    """{"ecg", "belts", "thorax_flow", "abdomen_flow", "odd", "flags"}, JSON-able.

    "ecg": "up", "down" or None. The others: {"correlation": median over 30-s pieces without scored
    apnoeas and hypopnoeas, "pieces"} or None. "odd": the one of THX, ABD, AF that goes against the
    two others where these agree; None where it cannot be told.
    """
    ecg = night.traces.get("ECG")
    out: dict = {"ecg": None}
    flags = []
    if ecg is not None and ecg.rate >= heart.LOWEST_ECG_RATE and len(ecg.values) > 10 * ecg.rate:
        out["ecg"] = "down" if heart.points_down(ecg) else "up"
        if out["ecg"] == "down":
            flags.append("ecg_inverted: R waves point down, an inverted lead or one that shows "
                         "them so")
    waves = {
        name: _breaths(night.traces[name]) for name in ("THX", "ABD", "AF")
        if name in night.traces and night.traces[name].rate >= COMMON_RATE
    }
    quiet = _quiet_pieces(night)
    pairs = {
        "belts": _together(waves.get("THX"), waves.get("ABD"), quiet),
        "thorax_flow": _together(_slope(waves.get("THX")), waves.get("AF"), quiet),
        "abdomen_flow": _together(_slope(waves.get("ABD")), waves.get("AF"), quiet),
    }
    signs = {name: _sign(pair) for name, pair in pairs.items()}
    odd = {(-1, 1, -1): "ABD", (-1, -1, 1): "THX", (1, -1, -1): "AF"}.get(
        (signs["belts"], signs["thorax_flow"], signs["abdomen_flow"])
    )
    if odd:
        flags.append(f"inverted_breathing: {odd} goes against the two other breathing signals")
    elif signs["belts"] == -1:
        flags.append("belts_opposed: thorax and abdomen move against each other all night: one is "
                     "inverted, or breathing is paradoxical")
    elif odd is None and -1 in (signs["thorax_flow"], signs["abdomen_flow"]) and (
        signs["belts"] is None
    ):
        flags.append("flow_opposed: airflow and belt go against each other: one is inverted")
    return out | pairs | {"odd": odd, "flags": flags}


def _breaths(trace: Trace) -> np.ndarray:
    """The breathing band of a trace at COMMON_RATE, float64."""
    values = np.nan_to_num(np.asarray(trace.values, np.float64), posinf=0, neginf=0)
    samples = int(len(values) / trace.rate * COMMON_RATE)
    factor = int(trace.rate // COMMON_RATE)
    if factor > 1:  # the mean of each factor-th part is filter enough for breaths under 0.7 Hz
        values = values[: len(values) // factor * factor].reshape(-1, factor).mean(axis=1)
    rate = trace.rate / factor
    index = np.arange(samples) * rate / COMMON_RATE
    values = np.interp(index, np.arange(len(values)), values)
    if len(values) < 10 * PIECE_S:
        return np.zeros(0)
    sos = signal.butter(2, BREATHS, "bandpass", fs=COMMON_RATE, output="sos")
    return signal.sosfiltfilt(sos, values)


def _slope(wave: np.ndarray | None) -> np.ndarray | None:
    return None if wave is None or not len(wave) else np.gradient(wave)


def _quiet_pieces(night: Night) -> np.ndarray:
    """30-s pieces free of scored breathing events, bool: in an obstruction belts do go opposed."""
    pieces = int(len(night.stages) * night.spec.seconds / PIECE_S)
    quiet = np.ones(pieces, bool)
    for event in night.events:
        if event.kind.endswith("apnea") or event.kind in ("hypopnea", "rera"):
            quiet[int(event.onset / PIECE_S) : int(event.end / PIECE_S) + 1] = False
    return quiet


def _together(one, other, quiet: np.ndarray) -> dict | None:
    """Median correlation of the pieces of two waves; None where there are under LEAST_PIECES."""
    if one is None or other is None or not len(one) or not len(other):
        return None
    samples = round(PIECE_S * COMMON_RATE)
    count = min(len(one) // samples, len(other) // samples, len(quiet))
    one, other = (x[: count * samples].reshape(count, samples) for x in (one, other))
    one, other = (x - x.mean(axis=1, keepdims=True) for x in (one, other))
    size = np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
    good = quiet[:count] & (size > 0)
    if good.sum() < LEAST_PIECES:
        return None
    found = (one * other).sum(axis=1)[good] / size[good]
    return {"correlation": round(float(np.median(found)), 3), "pieces": int(good.sum())}


def _sign(pair: dict | None) -> int | None:
    """1: together, -1: against each other, None: neither, or nothing to compare."""
    if pair is None or abs(pair["correlation"]) < AGREE:
        return None
    return 1 if pair["correlation"] > 0 else -1
