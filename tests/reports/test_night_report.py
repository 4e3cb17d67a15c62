import dataclasses
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from sleeplm_jax.config import STAGES
from sleeplm_jax.corpus.fingerprints import signals_sha256
from sleeplm_jax.corpus.nightfile import quantise
from sleeplm_jax.inference.captioning import NO_CHANNEL, NO_INPUT, NOT_TRAINED, why_silent
from sleeplm_jax.reports import figure
from sleeplm_jax.reports.night import clock_seconds, describe_night, seen_in_training
from sleeplm_jax.reports.panels import TimeAxis, body_positions
from sleeplm_jax.reports.reading import choose_epochs, read_night
from sleeplm_jax.reports.spectra import spectrogram
from tests.fake_model import FakeModel
from tests.reports.nights import EVENTS, SPEC, night, records

IMAGES = re.compile(r"data:image/png;base64,[A-Za-z0-9+/=]+")
STAGED = np.repeat([0, 1, 2, 3, 2, 4, 0], [6, 4, 20, 15, 10, 12, 3])


class Loads(HTMLParser):
    """Every address that a page would load or lead to, and its text."""

    def __init__(self):
        super().__init__()
        self.addresses, self.tags, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [v for k, v in attrs if k in ("src", "href", "srcset", "action", "data")]

    def handle_data(self, data):
        self.text.append(data)


def described(tmp_path, made, recs="own", **options):
    out = tmp_path / "report.html"
    recs = records(made) if recs == "own" else recs
    figures = describe_night(FakeModel(), made, recs, out, **options)
    page = out.read_text()
    read = Loads()
    read.feed(page)
    return figures, page, read, " ".join(" ".join(read.text).split())


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    folder = tmp_path_factory.mktemp("full")
    made = night(STAGED, events=EVENTS)
    return folder, made, described(folder, made)


def test_page_is_self_contained(full):
    _, _, (_, page, read, _) = full
    assert read.addresses and all(a.startswith("data:image/png;base64,") for a in read.addresses)
    assert not set(read.tags) & {"script", "link", "iframe", "object", "a"}
    assert "default-src 'none'" in page
    assert "://" not in IMAGES.sub("", page) and "@import" not in page and "url(" not in page


def test_page_says_what_a_reader_must_know(full):
    _, _, (_, _, _, text) = full
    for words in ("Simulated night", "no diagnosis", "Cohen's kappa with the scoring",
                  "What one recording can mean.", "Obstructive apnoea", "stand-in", "missing",
                  "The model writes", "Measured and scored", "Always N2", "night-one",
                  "first candidate for ECG", "no zero-shot result", "step 7"):
        assert words in text, words
    assert "zero-shot staging" not in text


def test_nothing_of_who_or_where_enters(full):
    folder, _, (figures, page, _, _) = full
    for secret in ("Doe", "Jane", "secret"):
        assert secret not in IMAGES.sub("", page) and secret not in str(figures)
    assert not Image.open(folder / "report.png").info.keys() - {"dpi"}  # no text in the file


def test_figures_are_those_of_the_model(full):
    _, made, (figures, _, _, text) = full
    assert figures["agreement"]["The model"]["kappa"] == 1
    assert figures["minutes"]["model"] == figures["minutes"]["scored"]
    assert figures["minutes"]["model"]["N3"] == 7.5
    assert "fake stage_event words of R" in text  # what the model writes for a REM epoch


def test_picture_decodes_and_shows_the_stage_colours(full):
    folder, _, (_, page, read, _) = full
    picture = Image.open(folder / "report.png").convert("RGB")
    assert picture.width > 1500 and picture.height > 1000
    colours = {c for _, c in picture.getcolors(1 << 24)}
    for hexa in ("#E9A13B", "#C2305D", "#A3CCE6", "#4B8FC4", "#17406D"):
        assert tuple(bytes.fromhex(hexa[1:])) in colours, hexa
    import base64
    for address in read.addresses:
        inner = Image.open(io.BytesIO(base64.b64decode(address.split(",")[1])))
        inner.load()
        assert inner.format == "PNG" and inner.width > 1000


def test_same_night_same_files(full, tmp_path):
    folder, made, _ = full
    described(tmp_path, made)
    for name in ("report.html", "report.png"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    assert {p.name for p in tmp_path.iterdir()} == {"report.html", "report.png"}


def test_two_minutes_without_scoring_records_eeg_or_position(tmp_path):
    made = night([0, 2, 3, 3], scored=False, missing=("C3", "POS"), simulated=False)
    figures, _, _, text = described(tmp_path, made, recs=None)
    assert figures["agreement"] == {} and "scored" not in figures["minutes"]
    assert "No scoring was given" in text and "Simulated night" not in text
    assert "One recording, read by" in text and "8 of 10" in text
    assert "no measurement" in text


def test_a_night_without_any_eeg_is_described(tmp_path):
    made = night([0, 2, 3, 3], missing=("C3", "C4"))
    assert spectrogram(made) is None
    described(tmp_path, made)


def test_wrong_and_partial_scoring_is_reported_as_such(tmp_path):
    made = night(STAGED, events=EVENTS)
    stages = made.stages.copy()
    stages[:6], stages[6:10] = -1, 4
    object.__setattr__(made, "stages", stages)
    other = np.where(stages < 0, 0, stages)
    figures, _, _, text = described(tmp_path, made, others={"A second reader": other})
    found = figures["agreement"]
    assert found["The model"]["n"] == len(STAGED) - 6 and found["The model"]["excluded"] == 6
    assert found["The model"]["confusion"]["counts"][4][1] == 4
    assert found["A second reader"]["kappa"] == 1 and "A second reader" in text


def test_own_queries_are_drawn_escaped_and_none_is_allowed(tmp_path):
    made = night([0, 2, 3, 4])
    model = FakeModel()
    describe_night(model, made, None, tmp_path / "a.html", queries=["<b>snoring</b>"])
    assert "<b>snoring</b>" in model.texts_seen
    assert "<b>snoring" not in (tmp_path / "a.html").read_text()
    describe_night(FakeModel(), made, None, tmp_path / "b.html", queries=[])
    assert "against free text" not in (tmp_path / "b.html").read_text()
    assert (tmp_path / "a.png").exists() and (tmp_path / "b.png").exists()


def test_epochs_are_chosen_by_rule():
    predicted = np.array([0, 2, 2, 2, 0, 0, 4, 3, 3])
    recs = [{"events": [1] * n} for n in (0, 0, 0, 0, 0, 2, 1, 2, 0)]
    chosen = choose_epochs(predicted, recs)
    assert chosen == {
        2: "middle of the longest stretch read as N2",
        4: "middle of the longest stretch read as W",
        5: "most scored events",
        6: "middle of the longest stretch read as R",
        7: "middle of the longest stretch read as N3",
    }
    assert 5 not in choose_epochs(predicted, None)


def test_reading_has_probabilities_and_cosines():
    made = night(STAGED)
    read = read_night(FakeModel(), made, records(made), ["words", "more words"])
    np.testing.assert_array_equal(read.predicted, STAGED)
    np.testing.assert_allclose(read.probabilities.sum(-1), 1)
    np.testing.assert_array_equal(read.probabilities.argmax(-1), STAGED)
    model = FakeModel()
    cosine = model.embed_texts(["words"]) @ model.embed_signals(made.signals, made.mask).T
    np.testing.assert_allclose(read.query_similarity[:1], cosine, atol=1e-6)
    measured = read.described[0].measured["stage_event"]
    assert measured and STAGES[STAGED[read.described[0].epoch]][0].lower() in measured.lower()


def test_queries_that_the_model_does_not_tell_apart_are_called_so(tmp_path):
    made = night(STAGED)
    same = read_night(FakeModel(), made, None, ["words", "words", "words"])
    assert same.alike == pytest.approx(1)
    assert read_night(FakeModel(), made, None, ["words"]).alike is None
    _, _, _, text = described(tmp_path, made, queries=["words", "words"])
    assert "hardly tells these sentences apart" in text
    _, _, _, text = described(tmp_path, made, queries=["This epoch is REM.", "This epoch is wake."])
    assert "hardly tells" not in text and "The curves correlate at" in text


def test_spectrogram_finds_the_tone():
    made = night(np.array([3] * 10 + [0] * 10))  # 1 Hz, then 9 Hz
    found = spectrogram(made)
    peak = found.frequencies[found.power.argmax(0)]
    middle = found.start + (np.arange(len(peak)) + 0.5) * found.seconds
    np.testing.assert_allclose(peak[middle < 295], 1, atol=0.25)
    np.testing.assert_allclose(peak[middle > 305], 9, atol=0.25)
    assert found.frequencies.max() == 30 and found.channel == "C4"


def test_clock_and_hours():
    assert clock_seconds(None) is None and clock_seconds("22:41:30") == 22 * 3600 + 41 * 60 + 30
    assert TimeAxis(3e4, clock_seconds("23:30:00")).name(5400) == "01:00:00"
    assert TimeAxis(3e4).name(5430) == "1:30:30 h" and TimeAxis(120).name(90) == "1.5 min"


def test_position_of_an_epoch_is_its_commonest():
    made = night([0, 2])
    row = made.spec.channels.index("POS")
    made.signals[0, row, :1000], made.signals[0, row, 1000:] = 0, 2
    made.mask[1, row] = False
    np.testing.assert_array_equal(body_positions(made), [0, -1])


def mixed(**weights):
    model = FakeModel()
    captions = dataclasses.replace(model.config.data.captions, **weights)
    data = dataclasses.replace(model.config.data, captions=captions)
    model.config = dataclasses.replace(model.config, data=data)
    return model


def of_channels(*channels):
    """A model whose only input is `channels`."""
    model = mixed()
    spec = dataclasses.replace(model.spec, channels=channels)
    model.config = dataclasses.replace(
        model.config, model=dataclasses.replace(model.config.model, spec=spec)
    )
    return model


def test_no_words_are_made_up_for_what_the_model_cannot_know(tmp_path):
    made = night(STAGED, missing=("ECG", "THX", "ABD", "AF"))
    made.mask[0, SPEC.channels.index("C3")] = False  # one of four: brain is still seen
    model = mixed(position_muscle=0.0)
    read = read_night(model, made, records(made))
    for item in read.described:
        assert set(item.generated) == {"brain", "stage_event"}
        assert item.silent == {"heart": NO_CHANNEL, "respiratory": NO_CHANNEL,
                               "position_muscle": NOT_TRAINED}
    describe_night(model, made, records(made), tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text()
    assert "fake brain words" in page and NO_CHANNEL in page and NOT_TRAINED in page
    for kind in ("heart", "respiratory", "position_muscle"):
        assert f"fake {kind} words" not in page


def test_a_channel_missing_in_some_epochs_only_silences_those():
    made = night(STAGED)
    told = read_night(FakeModel(), made, None).described
    made.mask[told[1].epoch, SPEC.channels.index("ECG")] = False
    again = read_night(FakeModel(), made, None).described
    assert [set(item.silent) for item in again] == [
        {"heart"} if i == 1 else set() for i in range(len(again))
    ]
    stage = STAGES[STAGED[again[2].epoch]]  # words stay with their epoch
    assert again[2].generated["heart"] == f"fake heart words of {stage}"


def test_a_kind_without_an_input_of_its_own_is_said_to_be_none():
    model = of_channels("C3", "POS")
    assert why_silent(model, "heart", np.array([True, True])) == NO_INPUT
    assert why_silent(model, "brain", np.array([True, True])) is None
    assert why_silent(model, "stage_event", np.array([True, False])) is None
    assert why_silent(model, "stage_event", np.array([False, True])) == NO_CHANNEL


def shown_on(monkeypatch):
    """What stands on the pictures made after this call, as text."""
    from matplotlib.text import Text

    said, save = [], figure.png_bytes

    def spied(fig, plt):
        said.append([text.get_text() for text in fig.findobj(Text)])
        return save(fig, plt)

    monkeypatch.setattr(figure, "png_bytes", spied)
    return said


@pytest.mark.parametrize(
    ("split", "words"),
    [("train", "trained on this person"), ("val", "This person chose the checkpoint"), ("test", "")]
)
def test_a_person_the_model_knows_is_called_so(split, words, tmp_path, monkeypatch):
    made, model = night([0, 2, 3, 3]), FakeModel()
    model.about["corpus"]["subjects"] = {split: ["test/Doe, Jane"], "other": []}
    said = shown_on(monkeypatch)
    found = describe_night(model, made, None, tmp_path / "a.html")
    assert found["seen"] == (split if words else None)
    page = (tmp_path / "a.html").read_text()
    picture = " ".join(said[0])  # the PNG comes before the page's strips
    for text in (page, picture):
        assert not words or words in text
        assert words or "this person" not in text.lower()
    assert "Doe" not in IMAGES.sub("", page)


def test_the_picture_too_says_that_queries_are_alike(tmp_path, monkeypatch):
    said = shown_on(monkeypatch)
    described(tmp_path, night(STAGED), queries=["words", "words"])
    assert any("hardly tells the free-text queries apart" in text for text in said[0])
    said.clear()
    described(tmp_path, night(STAGED), queries=["This epoch is REM.", "This epoch is wake."])
    assert not any("hardly tells" in text for text in said[0])


def test_a_night_under_another_name_is_known_by_its_signals():
    """As a copy of a recording that was trained on, renamed and scored anew."""
    made, model = night(STAGED), FakeModel()
    signals = signals_sha256(quantise(made.signals, SPEC.channels), made.mask)
    model.about = {"corpus": {"subjects": {"train": ["other/name"]}, "signals": {"val": [signals]}}}
    assert seen_in_training(model, made) == "val"
    made.signals[0, 0, 0] += 0.1
    assert seen_in_training(model, made) is None
