"""What an imported model is good for: training further, measuring, describing a night."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from sleeplm_jax.checkpoints import Checkpoints
from sleeplm_jax.cli import main
from sleeplm_jax.config.files import load_config
from sleeplm_jax.corpus.clip_bpe import clip_tokenizer
from sleeplm_jax.corpus.manifest import Corpus
from sleeplm_jax.corpus.tokenizer import Tokenizer
from sleeplm_jax.errors import CheckpointError
from sleeplm_jax.inference.run import Model
from sleeplm_jax.models.build import with_vocabulary
from sleeplm_jax.parallel.mesh import make_mesh
from sleeplm_jax.training.loop import train
from sleeplm_jax.training.step import Steps
from sleeplm_jax.training.warm_start import warm_start
from tests.fixtures_run import tiny_config
from tests.interop.clip_words import small_bpe
from tests.interop.shapes import changed, small_sleeplm, weights


def quiet(line):
    pass


def losses(run):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if row["split"] == "train"]


@pytest.mark.slow
def test_training_starts_from_another_runs_parameters(trained_run, corpus_folder, tmp_path):
    """Exactly these; and the first batch, on which that run began too, is no longer news."""
    config = load_config(trained_run / "config.json")
    config = dataclasses.replace(
        config, name="further", out=str(tmp_path), start_from=str(trained_run)
    )
    mesh = make_mesh(config.mesh)
    with jax.set_mesh(mesh):
        steps = Steps(config, mesh)
        taken, report, _ = warm_start(
            trained_run, config, Tokenizer.load(trained_run), steps, steps.init()["parameters"]
        )
    assert {row.what for row in report} == {"loaded"}
    for new, old in zip(jax.tree.leaves(taken), jax.tree.leaves(
        Model.load(trained_run, batch_size=2).parameters)
    ):
        np.testing.assert_array_equal(new, old)
    before, after = losses(trained_run), losses(train(config, quiet))
    assert after[0] < before[0] - 0.25 * (before[0] - before[-1])


@pytest.mark.slow
def test_another_model_or_tokenizer_is_refused(trained_run, corpus_folder, tmp_path):
    config = tiny_config(corpus_folder, tmp_path, start_from=str(trained_run))
    with pytest.raises(CheckpointError, match="another model"):
        train(changed(config, encoder=dict(width=64)), quiet)
    own = shutil.copytree(corpus_folder, tmp_path / "corpus")
    clip_tokenizer(small_bpe(tmp_path / "bpe.txt.gz"), Corpus.open(own).hash).save(own)
    with pytest.raises(CheckpointError, match="another model|another tokenizer"):
        train(tiny_config(own, tmp_path / "b", start_from=str(trained_run)), quiet)
    with pytest.raises(CheckpointError, match="is no run folder"):
        train(tiny_config(corpus_folder, tmp_path / "c", start_from=str(tmp_path)), quiet)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Glyph")  # random weights write any byte into a picture
def test_an_imported_model_is_measured_described_and_trained(
    corpus_folder, simulated_folder, tmp_path, capsys
):
    torch = pytest.importorskip("torch", reason="torch is not installed (extra torch)")
    from sleeplm_jax.interop.sleeplm_folder import official_config
    from sleeplm_jax.interop.sleeplm_names import to_sleeplm

    bpe = small_bpe(tmp_path / "bpe_simple_vocab_16e6.txt.gz")
    corpus = shutil.copytree(corpus_folder, tmp_path / "corpus")
    assert main(["tokenizer", "--corpus", str(corpus), "--bpe", str(bpe)]) == 0
    assert main(["corpus", "check", str(corpus)]) == 0
    size = Corpus.open(corpus).tokenizer().vocab_size
    config = with_vocabulary(small_sleeplm(), size)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, text_length=32))
    checkpoint, shape = tmp_path / "model_checkpoint.pt", tmp_path / "shape.json"
    state = to_sleeplm(weights(config), config)
    torch.save({"state_dict": {k: torch.tensor(v) for k, v in state.items()}}, checkpoint)
    shape.write_text(json.dumps(official_config(config)))
    run = tmp_path / "imported"
    assert main(["import", str(checkpoint), "--out", str(run), "--config", str(shape)]) == 0

    assert main(["evaluate", str(run), "--corpus", str(corpus), "--max-samples", "24"]) == 0
    result = json.loads((run / "evaluation.json").read_text())
    assert result["run"]["trained_subjects_known"] is False and "captions" in result
    night = sorted(simulated_folder.glob("*.edf"))[0]
    assert main(["describe", str(run), str(night), "--out", str(tmp_path / "r.html")]) == 0
    assert (tmp_path / "r.html").stat().st_size > 10_000

    imported = load_config(run / "config.json")
    further = dataclasses.replace(
        imported, name="further", out=str(tmp_path), steps=2, start_from=str(run),
        data=dataclasses.replace(imported.data, corpus=str(corpus), batch_size=4),
        eval_every=2, eval_samples=4, checkpoint_every=2, tensorboard=False,
    )
    folder = train(further, quiet)
    with Checkpoints(folder / "checkpoints") as saved:
        assert saved.latest == 2
    here = dataclasses.replace(
        imported, out=str(tmp_path), data=dataclasses.replace(imported.data, corpus=str(corpus))
    )
    with pytest.raises(CheckpointError, match="imported, not trained"):
        train(here, quiet)
