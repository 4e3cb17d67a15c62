"""A simulated night on disk: EDF+C, Compumedics Profusion XML, and the generating truth."""

from __future__ import annotations

import datetime
import io
import json
import xml.etree.ElementTree as ElementTree

import numpy as np

from sleeplm_jax.recordings.simulator.hypnogram import EPOCH, PROFUSION_CODE
from sleeplm_jax.recordings.simulator.night import SimulatedNight

START_DATE = datetime.date(2000, 1, 1)  # constant: a simulated night has no real date


def edf_bytes(night: SimulatedNight, start: datetime.time) -> bytes:
    """The night as EDF+C (Kemp & Olivan 2003, Clin Neurophysiol 114:1755-61), 1-s data records."""
    import edfio

    signals = []
    for signal in night.signals:
        low, high = signal.limit
        if signal.rate == 1:  # codes, bpm and %: steps that 16 bits hold without remainder
            steps = 32 if signal.label == "Position" else 100
            digital = (int(low * steps), int(high * steps))
        else:
            digital = (-32768, 32767)
        signals.append(
            edfio.EdfSignal(
                signal.values,
                signal.rate,
                label=signal.label,
                transducer_type=signal.transducer,
                physical_dimension=signal.unit,
                physical_range=(low, high),
                digital_range=digital,
                prefiltering=signal.prefiltering,
            )
        )
    edf = edfio.Edf(
        signals,
        patient=edfio.Patient(code="simulated", name="simulated"),
        recording=edfio.Recording(
            startdate=START_DATE, equipment_code="simulated", additional=("simulated", "recording")
        ),
        starttime=start,
        data_record_duration=1,
        annotations=[edfio.EdfAnnotation(0, None, "Simulated recording")],
    )
    buffer = io.BytesIO()
    edf.write(buffer)
    return buffer.getvalue()


def profusion_bytes(night: SimulatedNight) -> bytes:
    """Scoring in the layout of Compumedics Profusion's export, as the NSRR publishes it."""
    root = ElementTree.Element("CMPStudyConfig")

    def put(parent, tag, value):
        ElementTree.SubElement(parent, tag).text = f"{value}"

    put(root, "EpochLength", EPOCH)
    step = ElementTree.SubElement(ElementTree.SubElement(root, "StepChannels"), "StepChannel")
    put(step, "Input", "Position")
    labels = ElementTree.SubElement(step, "Labels")
    for name in ("RIGHT", "LEFT", "BACK", "FRONT", "UPRIGHT"):
        put(labels, "Label", name)
    events = ElementTree.SubElement(root, "ScoredEvents")
    for event in night.events:
        item = ElementTree.SubElement(events, "ScoredEvent")
        if event.lowest is not None:
            put(item, "LowestSpO2", event.lowest)
            put(item, "Desaturation", event.drop)
        put(item, "Name", event.name)
        put(item, "Start", f"{event.onset:.1f}")
        put(item, "Duration", f"{event.duration:.1f}")
        put(item, "Input", event.channel)
    stages = ElementTree.SubElement(root, "SleepStages")
    for stage in night.stages:
        put(stages, "SleepStage", PROFUSION_CODE[stage])
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n<!-- simulated -->\n{text}\n'.encode()


def start_clock(seed: int, index: int) -> datetime.time:
    """Lights off between half past nine in the evening and half past midnight."""
    minute = int(np.random.default_rng([seed, index, 99]).integers(0, 180)) + 21 * 60 + 30
    return datetime.time(minute // 60 % 24, minute % 60)


def json_bytes(content: dict) -> bytes:
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return f"{text}\n".encode()
