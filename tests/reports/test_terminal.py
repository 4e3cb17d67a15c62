import io

from rich.console import Console

from sleeplm_jax.recordings.inspection import inspect_recording
from sleeplm_jax.reports.terminal import print_inspection


def shown(found: dict) -> str:
    console = Console(width=200, file=io.StringIO(), record=True)
    print_inspection(found, console)
    return console.export_text()


def test_every_signal_and_channel_is_shown(simulated_folder):
    found = inspect_recording(simulated_folder / "sim-3-0000.edf")
    text = shown(found)
    for signal in found["signals"]:
        assert signal["label"] in text
    for channel, row in found["channels"].items():
        assert channel in text and (row is None or row["source"] in text)
    assert "sim-3-0000.xml" in text and "30 min" in text


def test_missing_channels_brackets_and_remarks_are_shown_as_they_are():
    text = shown({
        "file": "a[b].edf", "duration_s": 65.0, "start_clock": None, "montage": "m",
        "scoring": None, "channels": {"C3": None}, "unresolved": {"C3": ["no C3 [x]"]},
        "signals": [{"label": "[red]", "rate": 0.5, "unit": "", "min": None, "max": None,
                     "resolves_to": []}],
        "flags": ["flat: [C4]"],
    })
    for words in ("a[b].edf", "1 min 05 s", "missing", "no C3 [x]", "[red]", "flat: [C4]"):
        assert words in text, words
