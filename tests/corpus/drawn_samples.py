"""Samples drawn from a seed, without measuring: the same on every machine and library version."""

from __future__ import annotations

import numpy as np

from sleeplm_jax.captions.grounding import EVENTS, FEATURES, SCORED
from sleeplm_jax.captions.record import TIMED
from sleeplm_jax.config import CANONICAL_CHANNELS, CHANNEL_PAIRS, STAGES, SignalSpec

SPEC = SignalSpec(rate=64, seconds=2)
WORDS = {"position": ("left", "right", "supine", "prone", "upright")}


def record(rng: np.random.Generator) -> dict:
    """A record of the schema's form; values are of the size that night records have."""
    missing = [c for c in CANONICAL_CHANNELS[:12] if rng.random() < 0.1]
    measurements = []
    for feature, needs in FEATURES.items():
        for channel in dict.fromkeys(c for need in needs for c in need.channels):
            parts = CHANNEL_PAIRS.get(channel, (channel,))
            if rng.random() < 0.3 or set(parts) & set(missing):
                continue
            whole = feature not in TIMED or rng.random() < 0.5
            start = 0.0 if whole else round(float(rng.uniform(0, 20)), 3)
            value = round(float(rng.choice([0, rng.uniform(-3, 3), rng.uniform(0, 150)])), 3)
            if feature in WORDS:
                value = str(rng.choice(WORDS[feature]))
            measurements.append({
                "feature": feature, "value": value, "unit": "", "channel": channel,
                "interval": [start, 30.0 if whole else round(start + 7.25, 3)],
            })
    events = [
        {"kind": str(rng.choice(list(EVENTS))), "onset": round(float(onset), 3),
         "end": round(float(min(30, onset + rng.uniform(1, 12))), 3),
         "continues_from": False, "continues_into": False, "channel": None}
        for onset in np.sort(rng.uniform(0, 29, rng.integers(0, 3)))
    ]
    return {
        "stage": None if rng.random() < 0.1 else str(rng.choice(STAGES)), "events": events,
        "measurements": measurements, "missing": missing,
        "scored": [group for group in SCORED if rng.random() < 0.8],
        "stand_ins": [c for c in ("C3", "C4", "AF") if rng.random() < 0.1],
    }


class Drawn:
    """A source of `samples` samples in the form of `manifest.Source`."""

    def __init__(self, samples: int = 200, spec: SignalSpec = SPEC, seed: int = 11):
        self.samples, self.spec, self.seed = samples, spec, seed
        self.sizes, self.weights = (samples,), (1,)

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> dict:
        rng = np.random.default_rng([self.seed, index])
        made, channels = record(rng), self.spec.channels
        signal = rng.integers(-32767, 32768, self.spec.shape).astype(np.int16)
        signal[channels.index("POS")] = rng.integers(-1, 5)
        artefact = np.where(rng.random(len(channels)) < 0.1, rng.integers(1, 255), 0)
        return {
            "signal": signal, "mask": np.array([c not in made["missing"] for c in channels]),
            "artefact": artefact.astype(np.uint8),
            "scale": np.ones(len(channels), np.float32),
            "offset": np.zeros(len(channels), np.float32),
            "stage": STAGES.index(made["stage"]) if made["stage"] else -1, "record": made,
            "recording": f"night-{index // 50}", "subject": "", "cohort": "", "epoch": index % 50,
        }


class DrawnCorpus:
    """What a `Loader` needs of a corpus."""

    def __init__(self, samples: int = 200, spec: SignalSpec = SPEC, seed: int = 11):
        self.spec, self._samples, self._seed = spec, samples, seed

    def source(self, split: str) -> Drawn:
        return Drawn(self._samples, self.spec, self._seed)


class Bytes:
    """A tokenizer whose ids are a text's bytes."""

    def ids(self, text: str) -> list[int]:
        return [4 + byte for byte in text.encode()]

    def encode(self, text: str, length: int) -> np.ndarray:
        ids = self.ids(text)[: length - 2]
        return np.array([1, *ids, 2] + [0] * (length - 2 - len(ids)), np.int32)
