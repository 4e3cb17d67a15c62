"""CLIP's tokenizer on a vocabulary made here; ids worked out by hand from the file's form."""

import gzip
import json
import pickle
import sys

import numpy as np
import pytest

from sleeplm_jax.corpus.clip_bpe import clip_tokenizer
from sleeplm_jax.corpus.tokenizer import Tokenizer
from sleeplm_jax.errors import CorpusError, UserError
from tests.interop.clip_words import small_bpe

pytest.importorskip("tokenizers", reason="tokenizers is not installed (extra torch)")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return clip_tokenizer(small_bpe(tmp_path_factory.mktemp("bpe") / "bpe.txt.gz"))


def test_ids_are_bytes_ends_merges_and_marks(clip):
    """"!" is the first printable byte and so 0, "a" the 65th; at a word's end 256 more; the first
    merge is 512; start and end come last."""
    assert clip.ids("!a") == [256, 65 - 1 + 256]  # alone, each is a word's end
    assert clip.ids("aq") == [64, 80 + 256]
    assert clip.ids("de deep")[0] == 67 and clip.ids("deep") != clip.ids("dee")
    assert clip.ids("dexp")[0] == 512
    merges = clip.vocab_size - 514
    assert clip.bos_id == 512 + merges and clip.eos_id == clip.bos_id + 1 and clip.pad_id == 0


def test_a_row_has_marks_and_a_long_text_keeps_its_end(clip):
    row = clip.encode("deep sleep", 8)
    assert row.dtype == np.int32 and row[0] == clip.bos_id and row[3] == clip.eos_id
    assert len(clip.ids("deep sleep")) == 2 and not row[4:].any()
    row = clip.encode("1 2 3 4 5 6 7 8 9", 6)
    assert row[-1] == clip.eos_id and row[1:5].tolist() == clip.ids("1 2 3 4")


def test_case_white_space_and_entities_do_not_matter(clip):
    wanted = clip.ids("deep sleep & wake's")
    assert clip.ids("  Deep\tSLEEP &amp;amp;\n wake's ") == wanted


def test_digits_and_signs_are_pieces_of_their_own(clip):
    assert len(clip.ids("39.05%,")) == 7  # no merge joins "%," here
    assert clip.ids("39.05") == [clip.ids(c)[0] for c in "39.05"]


@pytest.mark.parametrize("text", [
    "central eeg (c4-a1): a delta power of 39.05%, the patient's n2.",
    "from 0.0 to 15.2 seconds. wake at 7, spo2 of 95; -3.5 uv and +2.",
    "14.71/min", "naïve ångström 午前 😴", "wake",
])  # fmt: skip
def test_sentences_come_back_in_lower_case(clip, text):
    assert clip.decode(clip.encode(text.upper(), 128)) == text


def test_decoding_ignores_what_is_no_text(clip):
    ids = [clip.bos_id, *clip.ids("wake"), 0, clip.vocab_size + 5, clip.eos_id, 300]
    assert clip.decode(ids) == "wake"


def test_marks_in_a_text_are_just_text(clip):
    row = clip.encode("<end_of_text>", 64)
    assert (row == clip.eos_id).sum() == 1


def test_a_folder_and_a_process_get_the_same_tokenizer(clip, tmp_path):
    clip.save(tmp_path)
    assert json.loads((tmp_path / "tokenizer.json").read_text())["kind"] == "clip"
    loaded = Tokenizer.load(tmp_path)
    for other in (loaded, pickle.loads(pickle.dumps(clip))):
        assert type(other) is type(clip) and other.hash == clip.hash
        assert other.ids("deep 12") == clip.ids("deep 12") and other.eos_id == clip.eos_id


@pytest.mark.parametrize(("content", "finding"), [
    (b"", "holds no merges"),
    (b"#version\na b c\n", "line 2 is no pair"),
    (b"#version\nab c\n", "is no BPE vocabulary"),  # "ab" was never made
    (b"#version\na b\na b\n", "two merges give the same piece"),
    (b"\x1f\x8bgarbage", "damaged gzip"),
    (gzip.compress(b"#version\n" + b"a" * (33 << 20)), "more than 32 MB"),
    (b"#version\n\xff\xfe\n", "is no BPE vocabulary"),
])  # fmt: skip
def test_a_file_that_is_no_vocabulary_is_refused_in_one_line(tmp_path, content, finding):
    path = tmp_path / "bpe.txt.gz"
    path.write_bytes(content)
    with pytest.raises(CorpusError, match=finding) as caught:
        clip_tokenizer(path)
    assert "\n" not in str(caught.value)


def test_an_absent_package_is_named(clip, monkeypatch, tmp_path):
    clip.save(tmp_path)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(UserError, match="needs the package tokenizers.*pip install"):
        Tokenizer.load(tmp_path)


def test_the_command_puts_it_into_a_corpus(corpus_folder, tmp_path, capsys):
    import shutil

    from sleeplm_jax.cli import main
    from sleeplm_jax.corpus.manifest import Corpus

    own = shutil.copytree(corpus_folder, tmp_path / "own")
    bpe = small_bpe(tmp_path / "bpe.txt.gz")
    assert main(["tokenizer", "--corpus", str(own), "--bpe", str(bpe)]) == 0
    assert Corpus.open(own).tokenizer().kind == "clip"
