"""The canonical channels: what each is, its unit, how it is filtered, what values are plausible.

Pass bands are the AASM manual's routine settings (AASM Manual for the Scoring of Sleep, v2.6,
"Technical and Digital Specifications": EEG and EOG 0.3-35 Hz, EMG 10-100 Hz, ECG 0.3-70 Hz,
airflow by thermal sensor and effort 0.1-15 Hz).
"""

from __future__ import annotations

from dataclasses import dataclass

from sleeplm_jax.recordings.signals import ARTEFACT_RATIO

MICROVOLT = "µV"


@dataclass(frozen=True)
class Channel:
    """A canonical channel; `band` in Hz (None: unfiltered), `plausible` amplitude in µV.

    The amplitude is the median over 30-s epochs of the filtered signal's standard deviation. A
    value outside `plausible` is a wrong unit or a dead input rather than a person. Below
    `min_rate` (Hz) a signal cannot be this channel, whatever its label.
    """

    name: str
    kind: str
    unit: str | None  # after conversion; None keeps the file's own
    step: bool = False  # holds its value between samples: never filtered nor interpolated
    band: tuple[float, float] | None = None
    plausible: tuple[float, float] | None = None
    min_rate: float = 0.0
    loudest: float = ARTEFACT_RATIO  # variance, in medians of the night, that is an artefact


# 25 Hz is what alpha and slow spindles need; a trend of 1 Hz or a damaged record duration is less.
_EEG = dict(unit=MICROVOLT, band=(0.3, 35.0), min_rate=25.0)
# Sleep-EDF's chin and airflow come at 1 Hz. Far below it is a damaged record duration, and bringing
# one sample a day to 64 Hz takes a filter of tens of GB.
_SLOWEST = 0.5
CHANNELS: dict[str, Channel] = {
    channel.name: channel
    for channel in (
        Channel("ECG", "ecg", MICROVOLT, band=(0.3, 70.0), plausible=(10.0, 20_000.0),
                min_rate=25.0),
        Channel("ABD", "effort", None, band=(0.1, 15.0), min_rate=_SLOWEST),
        Channel("THX", "effort", None, band=(0.1, 15.0), min_rate=_SLOWEST),
        Channel("AF", "flow", None, band=(0.1, 15.0), min_rate=_SLOWEST),
        Channel("EOG-L", "eog", plausible=(1.0, 1_000.0), **_EEG),
        Channel("EOG-R", "eog", plausible=(1.0, 1_000.0), **_EEG),
        Channel("C3", "eeg", plausible=(1.0, 500.0), **_EEG),
        Channel("C4", "eeg", plausible=(1.0, 500.0), **_EEG),
        # Chin tone of a wake or moving person is easily 10 times that of REM sleep.
        Channel("EMG", "emg", MICROVOLT, band=(10.0, 100.0), plausible=(0.05, 1_000.0),
                min_rate=_SLOWEST, loudest=100 * ARTEFACT_RATIO),
        Channel("POS", "position", "code", step=True),
        Channel("HR", "heart_rate", "bpm", step=True),
        Channel("SpO2", "oximetry", "%", step=True),
        Channel("SNORE", "snore", None, band=(10.0, 100.0), min_rate=25.0),
        Channel("LEG-L", "emg", MICROVOLT, band=(10.0, 100.0), plausible=(0.05, 2_000.0),
                min_rate=25.0, loudest=100 * ARTEFACT_RATIO),
        Channel("LEG-R", "emg", MICROVOLT, band=(10.0, 100.0), plausible=(0.05, 2_000.0),
                min_rate=25.0, loudest=100 * ARTEFACT_RATIO),
        Channel("F3", "eeg", plausible=(1.0, 500.0), **_EEG),
        Channel("F4", "eeg", plausible=(1.0, 500.0), **_EEG),
        Channel("O1", "eeg", plausible=(1.0, 500.0), **_EEG),
        Channel("O2", "eeg", plausible=(1.0, 500.0), **_EEG),
    )
}

# POS codes (SleepLM README): 0 right, 1 left, 2 supine, 3 prone, 4 upright.
POSITIONS = ("right", "left", "supine", "prone", "upright")
POSITION_UNKNOWN = -1

_TO_MICROVOLT = {"v": 1e6, "mv": 1e3, "uv": 1.0, "nv": 1e-3}


def microvolt_scale(unit: str) -> float | None:
    """Factor from `unit` to µV: V, mV, uV, µV (either micro sign), nV; None if it is no voltage.

    Case is ignored: headers write "UV" and "MV", and no megavolt leaves a person.
    """
    plain = unit.strip().casefold().replace("\u00b5", "u").replace("\u03bc", "u")
    # UTF-8 "µV" read as Latin-1 gives "ÂµV"; words are as some exporters write them.
    plain = plain.replace("\u00e2", "").replace("microv", "uv").replace("milliv", "mv")
    plain = plain.removesuffix("olts").removesuffix("olt")
    return _TO_MICROVOLT.get(plain)
