"""Starting from another run whose model is not quite this one."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from sleeplm_jax.checkpoints import Checkpoints
from sleeplm_jax.config.files import save_config
from sleeplm_jax.corpus.tokenizer import Tokenizer
from sleeplm_jax.errors import CheckpointError
from sleeplm_jax.models.build import create, with_vocabulary
from sleeplm_jax.parallel.mesh import make_mesh
from sleeplm_jax.training.loop import train
from sleeplm_jax.training.step import Steps
from sleeplm_jax.training.warm_start import flat, interpolation, lines, warm_start
from tests.fixtures_run import tiny_config
from tests.interop.shapes import changed


class Words:
    """A tokenizer of which only its pieces matter."""

    def __init__(self, pieces, kind="sentencepiece"):
        self._pieces, self.kind = pieces, kind

    def pieces(self):
        return self._pieces


def any_values(config, seed):
    """Parameters of a config: a fresh model's zeros and ones would hide a row in a wrong place."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: rng.normal(size=x.shape).astype(x.dtype),
                        jax.eval_shape(lambda: create(config)[1]))


@pytest.fixture(scope="module")
def source(corpus_folder, tmp_path_factory):
    """A run folder with drawn parameters: `(folder, config, tokenizer, parameters by path)`."""
    folder = tmp_path_factory.mktemp("runs") / "source"
    tokenizer = Tokenizer.load(corpus_folder)
    config = with_vocabulary(tiny_config(corpus_folder, folder.parent), tokenizer.vocab_size)
    parameters = any_values(config, 7)
    with Checkpoints(folder / "checkpoints", writing=True) as saved:
        saved.save(0, {"parameters": parameters}, {"tokenizer": tokenizer.hash})
    tokenizer.save(folder)
    save_config(config, folder / "config.json")
    return folder, config, tokenizer, flat(parameters)


def started(source, config, tokenizer=None):
    """(parameters by path, fresh draw by path, report)."""
    mesh = make_mesh(config.mesh)
    with jax.set_mesh(mesh):
        steps = Steps(config, mesh)
        drawn = jax.device_put(any_values(config, 8), steps.shardings["parameters"])
        fresh = flat(jax.device_get(drawn))
        taken, report, _ = warm_start(source[0], config, tokenizer or source[2], steps, drawn)
    return flat(jax.device_get(taken)), fresh, Report(report)


class Report(dict):
    """What became of each parameter here, by path; `skipped`: paths there."""

    def __init__(self, rows):
        super().__init__({row.path: row for row in rows if row.what != "skipped"})
        self.skipped = {row.path for row in rows if row.what == "skipped"}
        self.lines = lines(rows)


def with_spec(config, **changes):
    spec = dataclasses.replace(config.model.spec, **changes)
    return dataclasses.replace(config, model=dataclasses.replace(config.model, spec=spec))


CHANNELS = ("C3", "C4", "F3", "F4", "EOG-L", "EOG-R", "EMG", "ECG", "ABD", "THX", "AF", "POS")


def test_channels_go_by_name_times_by_interpolation_and_the_rest_as_it_is(source):
    """12 channels in another order and windows of 60 s, from 10 channels and 30 s."""
    _, config, _, old = source
    wanted = with_spec(config, channels=CHANNELS, seconds=60)
    wanted = dataclasses.replace(
        wanted, objective=dataclasses.replace(wanted.objective, reconstruction=0.0)
    )
    taken, fresh, report = started(source, wanted)
    before = config.model.spec.channels
    for path in ("encoder/stem/filters", "encoder/stem/bias", "encoder/row_embedding"):
        for row, channel in enumerate(CHANNELS):
            expected = (old[path][before.index(channel)] if channel in before
                        else fresh[path][row])
            np.testing.assert_array_equal(taken[path][row], expected, err_msg=f"{path} {channel}")
        assert report[path].what == "resized"
        assert "10 of 12 channels (drawn: F3, F4)" in report[path].detail
    # Four patches of 7.5 s become eight; numpy's interpolation between the patches' centres.
    path = "encoder/time_embedding"
    assert old[path].shape[0] == 4 and taken[path].shape[0] == 8
    centres = [(np.arange(n) + 0.5) / n for n in (4, 8)]
    for d in range(old[path].shape[1]):
        expected = np.interp(centres[1], centres[0], old[path][:, d])
        np.testing.assert_allclose(taken[path][:, d], expected, atol=1e-6)
    assert "4 -> 8 places in time, linear" in report[path].detail
    for path, row in report.items():
        if row.what == "loaded":
            np.testing.assert_array_equal(taken[path], old[path])
    assert report["encoder/norm/scale"].what == "loaded"
    assert report.skipped == {path for path in old if path.startswith("reconstruction/")}


@pytest.mark.parametrize(("before", "now"), [(4, 8), (30, 20), (7, 7), (1, 3), (5, 1)])
def test_interpolation_is_that_of_torch(before, now):
    torch = pytest.importorskip("torch")
    values = np.random.default_rng(0).normal(size=(before, 6)).astype(np.float32)
    expected = torch.nn.functional.interpolate(
        torch.tensor(values).T[None], size=now, mode="linear", align_corners=False
    )[0].T.numpy()
    np.testing.assert_allclose(interpolation(before, now) @ values, expected, atol=1e-6)


def test_a_window_of_every_patchs_own_place_is_resized_too(source, tmp_path):
    """positions "full": rows by name and times by interpolation in one parameter."""
    folder, config, tokenizer, _ = source
    full = changed(config, encoder=dict(positions="full"))
    parameters = any_values(full, 3)
    with Checkpoints(tmp_path / "checkpoints", writing=True) as saved:
        saved.save(0, {"parameters": parameters}, {"tokenizer": tokenizer.hash})
    tokenizer.save(tmp_path)
    save_config(full, tmp_path / "config.json")
    wanted = dataclasses.replace(
        with_spec(full, channels=("POS", "F3", "ECG"), seconds=15),
        objective=dataclasses.replace(full.objective, reconstruction=0.0),
    )
    taken, fresh, _ = started((tmp_path, full, tokenizer), wanted)
    path = "encoder/position_embedding"
    old = flat(parameters)[path]
    at = full.model.spec.channels.index
    # Two parts of what were four: the means of pairs of neighbours.
    halved = lambda x: x.reshape(2, 2, -1).mean(1)  # noqa: E731
    np.testing.assert_allclose(taken[path][0], halved(old[at("POS")]), atol=1e-6)
    np.testing.assert_array_equal(taken[path][1], fresh[path][1])
    np.testing.assert_allclose(taken[path][2], halved(old[at("ECG")]), atol=1e-6)


def test_words_go_by_their_pieces_and_places_in_a_text_by_their_index(source, monkeypatch):
    """A grown vocabulary in another order, and longer texts; the summary's place stays last."""
    folder, config, tokenizer, old = source
    theirs = tokenizer.pieces()
    ours = theirs[:4] + ["▁newword", "▁another"] + theirs[:3:-1]
    wanted = dataclasses.replace(
        with_vocabulary(config, len(ours) + 100), data=dataclasses.replace(
            config.data, text_length=64),
    )
    taken, fresh, report = started(source, wanted, Words(ours))
    for path, axis in (("text/token_embedding", 0), ("decoder/logits/kernel", 1)):
        a, b, new = (np.moveaxis(x[path], axis, 0) for x in (taken, old, fresh))
        for row, piece in enumerate(ours):
            expected = new[row] if piece in ours[4:6] else b[theirs.index(piece)]
            np.testing.assert_array_equal(a[row], expected)
        assert f"{len(theirs):,} of {len(ours):,} words" in report[path].detail
    path = "text/position_embedding"
    np.testing.assert_array_equal(taken[path][:48], old[path][:48])
    np.testing.assert_array_equal(taken[path][48:64], fresh[path][48:64])
    np.testing.assert_array_equal(taken[path][64], old[path][48])


def test_a_tokenizer_of_other_words_is_refused_or_its_words_drawn_by_choice(source):
    _, config, tokenizer, old = source
    other = Words([f"▁w{i}" for i in range(tokenizer.vocab_size)])
    with pytest.raises(CheckpointError, match="another tokenizer .*0 of its"):
        started(source, config, other)
    with pytest.raises(CheckpointError, match="another tokenizer"):
        started(source, config, Words(tokenizer.pieces(), kind="clip"))
    chosen = dataclasses.replace(
        config, start_from_map=("text/token_embedding=", "decoder/logits/.*=")
    )
    taken, fresh, report = started(source, chosen, other)
    np.testing.assert_array_equal(taken["text/token_embedding"], fresh["text/token_embedding"])
    assert report["decoder/logits/kernel"].what == "drawn"
    assert report["decoder/stack/blocks/mlp/up/kernel"].what == "loaded"


def test_names_may_be_changed(source):
    """By regular expressions; a rename that nothing has is an error."""
    _, config, _, old = source
    mapped = dataclasses.replace(config, start_from_map=(
        "signal_projection/=spare/", r"text_(projection)/kernel=signal_\1/kernel",
    ))
    taken, fresh, report = started(source, mapped)
    np.testing.assert_array_equal(taken["signal_projection/kernel"], old["text_projection/kernel"])
    assert report["signal_projection/kernel"].source == "text_projection/kernel"
    np.testing.assert_array_equal(taken["text_projection/kernel"], fresh["text_projection/kernel"])
    assert report["signal_projection/kernel"].what == "loaded"
    shown = "\n".join(report.lines)
    assert "from text_projection/kernel" in shown and "drawn    text_projection" in shown
    none = dataclasses.replace(config, start_from_map=("nothing/=encoder/",))
    with pytest.raises(CheckpointError, match="no parameter that --start-from-map .* could rename"):
        started(source, none)
    twice = dataclasses.replace(config, start_from_map=("text_projection=signal_projection",))
    with pytest.raises(CheckpointError, match="two parameters for signal_projection/kernel"):
        started(source, twice)


def test_another_size_is_refused_by_the_parameters_name(source):
    _, config, _, _ = source
    with pytest.raises(CheckpointError, match="another model .*encoder/.* is .*32.* here .*64"):
        started(source, changed(config, encoder=dict(width=64)))


def test_a_start_in_which_nothing_was_taken_over_is_an_error(source):
    _, config, _, _ = source
    nothing = dataclasses.replace(config, start_from_map=(".*=",))
    with pytest.raises(CheckpointError, match="holds nothing that this model has"):
        started(source, nothing)


def test_a_run_says_and_writes_what_it_took_over(source, corpus_folder, tmp_path):
    """All of a run: the first loss is not that of a fresh model (their first batch is the same)."""
    folder = source[0]
    config = tiny_config(corpus_folder, tmp_path, start_from=str(folder),
                         start_from_map=("reconstruction/.*=",))
    said = []
    run = train(config, said.append)
    written = json.loads((run / "start_from.json").read_text())
    what = {(row["path"], row["what"]) for row in written["parameters"]}
    assert written["from"].endswith("source, step 0")
    assert ("encoder/norm/scale", "loaded") in what
    assert ("reconstruction/bottleneck/kernel", "drawn") in what
    assert ("reconstruction/bottleneck/kernel", "skipped") in what
    assert any(line.strip().startswith("drawn    reconstruction") for line in said)
    first = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    assert first["caption"] > 12  # of weights of size 1; a fresh model's is 6.9
