"""Checkpoints of a small state: what stays, what is found damaged, what a full disk leaves."""

import json
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleeplm_jax import checkpoints
from sleeplm_jax.checkpoints import FORMAT, Checkpoints
from sleeplm_jax.checkpoints.keeping import kept
from sleeplm_jax.errors import CheckpointError


def state_at(step, *, ema=False):
    """A state that no other step has; the matrix is large enough to have a data file."""
    w = jax.random.normal(jax.random.key(step), (40, 30))
    made = {"parameters": {"w": w, "b": {"c": jnp.arange(5.0) + step}},
            "optimizer": {"m": -w}, "step": jnp.int32(step)}
    return made | ({"ema": jax.tree.map(lambda x: x + 1, made["parameters"])} if ema else {})


def shapes_of(state):
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )


def same(a, b):
    return jax.tree.all(jax.tree.map(lambda x, y: np.array_equal(x, y), a, b))


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Folder with the whole checkpoints 4 and 8. Treat it as read-only."""
    folder = tmp_path_factory.mktemp("two") / "checkpoints"
    with Checkpoints(folder, writing=True) as saved:
        for step in (4, 8):
            saved.save(step, state_at(step), {"corpus": "abc"}, 1.0 / step)
    return folder


def newest(folder):
    said = []
    found = Checkpoints(folder).restore_newest(
        shapes_of(state_at(0)), lambda about: None, said.append
    )
    return found, said


def test_a_checkpoint_comes_back_bit_for_bit_and_says_what_it_is_of(two):
    (step, state, about), said = newest(two)
    assert step == 8 and same(state, state_at(8)) and not said
    assert about["format"] == FORMAT and about["corpus"] == "abc" and about["val_loss"] == 0.125
    assert Checkpoints(two).best == 8


@pytest.mark.parametrize("how", ["gone", "cut", "flipped", "emptied"])
def test_whatever_is_damaged_nothing_wrong_is_read(two, tmp_path, how):
    """Each file of the newest checkpoint in turn: either it did not matter, and the state is that
    of the step, or the step before is used and a line says so."""
    names = [path.relative_to(two) for path in sorted((two / "8").rglob("*")) if path.is_file()]
    passed = 0
    for number, name in enumerate(names):
        folder = shutil.copytree(two, tmp_path / str(number) / "checkpoints")
        data = (folder / name).read_bytes()
        middle = len(data) // 2
        (folder / name).write_bytes({
            "cut": data[:middle], "gone": b"", "emptied": b"",
            "flipped": data[:middle] + bytes([data[middle] ^ 0x10]) + data[middle + 1 :],
        }[how])
        if how == "gone":
            (folder / name).unlink()
        (step, state, _), said = newest(folder)
        assert same(state, state_at(step)), name
        if step == 4:
            passed += 1
            (line,) = said
            assert line.startswith("checkpoint 8 ") and "passed over for 4" in line
            assert "\n" not in line
            assert (tmp_path / str(number) / "damaged" / "8").is_dir()
            assert Checkpoints(folder).steps == [4]
        else:
            assert step == 8 and not said
    # Manifests, metadata and data files of both items, and the JSON: those that are read.
    assert passed >= 7


def test_bits_that_changed_in_an_array_are_found(two, tmp_path):
    """zstd without a check sum decodes them: it is the fingerprint that finds them."""
    folder = shutil.copytree(two, tmp_path / "checkpoints")
    data = max((folder / "8" / "parameters").rglob("*"), key=lambda p: p.stat().st_size)
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    with pytest.raises(CheckpointError, match="is not what was saved .its parameters differ.") as e:
        Checkpoints(folder).restore(8, shapes_of(state_at(8)))
    assert "\n" not in str(e.value)


def test_when_none_can_be_read_nothing_is_moved(two, tmp_path):
    folder = shutil.copytree(two, tmp_path / "checkpoints")
    for step in ("4", "8"):
        (folder / step / "progress" / "manifest.ocdbt").unlink()
    with pytest.raises(CheckpointError, match="no checkpoint that can be read: step 8 .*; step 4"
                       ) as caught:
        newest(folder)
    assert "\n" not in str(caught.value)
    assert sorted(p.name for p in folder.iterdir()) == ["4", "8"]


def test_a_newer_format_is_refused_not_passed_over(two, tmp_path):
    folder = shutil.copytree(two, tmp_path / "checkpoints")
    path = folder / "8" / "about" / "data.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": FORMAT + 1}))
    with pytest.raises(CheckpointError, match=f"format {FORMAT + 1}, this version reads {FORMAT}"):
        newest(folder)


def test_what_belongs_to_something_else_ends_the_search(two):
    def refuse(about):
        raise CheckpointError("run", "was trained with another corpus", "restore it")

    with pytest.raises(CheckpointError, match="another corpus"):
        Checkpoints(two).restore_newest(shapes_of(state_at(0)), refuse, print)


def test_a_save_that_was_killed_is_named_cleared_and_replaced(two, tmp_path):
    folder = shutil.copytree(two, tmp_path / "checkpoints")
    half = folder / "12.orbax-checkpoint-tmp"
    shutil.copytree(folder / "8" / "parameters", half / "parameters.orbax-checkpoint-tmp")
    assert Checkpoints(folder).steps == [4, 8] and half.is_dir()  # a reader leaves it alone
    with Checkpoints(folder, writing=True) as saved:
        assert saved.unfinished == [12]
        saved.save(12, state_at(12), {})
    assert same(newest(folder)[0][1], state_at(12))
    assert sorted(p.name for p in folder.iterdir()) == ["12", "8"]


def test_a_held_out_loss_that_comes_later_needs_no_second_save(tmp_path):
    with Checkpoints(tmp_path / "c", keep=1, writing=True) as saved:
        saved.save(4, state_at(4), {"owed": True, "corpus": "abc"}, temporary=True)
        saved.wait()
        arrays = {p: p.stat().st_mtime_ns for p in (tmp_path / "c" / "4").rglob("*.ocdbt")}
        saved.amend(4, {"corpus": "abc"}, 0.25)
        assert arrays == {p: p.stat().st_mtime_ns for p in (tmp_path / "c" / "4").rglob("*.ocdbt")}
        saved.save(8, state_at(8), {"corpus": "abc"}, 0.5)
    (step, state, _), said = newest(tmp_path / "c")
    assert step == 8 and not said
    saved = Checkpoints(tmp_path / "c")
    assert saved.steps == [4, 8] and saved.best == 4  # no longer temporary
    about = saved.about(4)
    assert about["val_loss"] == 0.25 and "owed" not in about and about["corpus"] == "abc"
    assert same(saved.restore(4, shapes_of(state_at(4))), state_at(4))


def test_a_save_that_ends_without_error_and_without_a_checkpoint_has_failed(tmp_path):
    class Done:
        def result(self, timeout=None):
            return True

    with Checkpoints(tmp_path / "c", writing=True) as saved:
        saved._pending = 5, Done()
        with pytest.raises(CheckpointError, match="5: saving failed .it was given up"):
            saved.wait()


def note(step, loss=None, temporary=False, corpus="a"):
    return {"step": step, "val_loss": loss, "temporary": temporary, "corpus": corpus}


@pytest.mark.parametrize(("notes", "keep", "keep_every", "stay"), [
    ([note(10), note(20), note(30)], 2, 0, {20, 30}),
    ([note(10), note(20), note(30), note(40)], 1, 20, {20, 40}),
    ([note(10, 1.0), note(20, 3.0), note(30, 2.0)], 1, 0, {10, 30}),
    # A temporary one stays until a later one is there, and takes the place of no regular one.
    ([note(10), note(20), note(27, temporary=True)], 2, 0, {10, 20, 27}),
    ([note(10), note(20), note(27, temporary=True), note(30)], 2, 0, {20, 30}),
    ([note(10), note(17, temporary=True), note(18, temporary=True)], 2, 0, {10, 18}),
    # The one before stays when it would be the only one: the newest is still being written.
    ([note(10), note(20, temporary=True), note(30)], 1, 20, {20, 30}),
    # Of the best, those count whose data the run is on.
    ([note(10, 1.0), note(20, 3.0, corpus="b"), note(30, 4.0, corpus="b")], 1, 0, {20, 30}),
    ([note(10, 1.0), note(20, corpus="b"), note(30, corpus="b")], 2, 0, {20, 30}),
])  # fmt: skip
def test_which_checkpoints_stay(notes, keep, keep_every, stay):
    assert kept({row["step"]: row for row in notes}, keep, keep_every) == stay


def test_one_that_cannot_be_read_is_not_deleted_unseen():
    assert kept({10: {}, 20: note(20), 30: note(30)}, 1, 0) == {10, 30}


def test_the_policy_holds_on_the_disk(tmp_path):
    with Checkpoints(tmp_path / "c", keep=1, keep_every=4, writing=True) as saved:
        for step, loss, temporary in (
            (2, 0.5, False), (3, None, True), (4, 0.9, False), (5, None, True), (6, 0.8, False),
        ):
            saved.save(step, state_at(step), {}, loss, temporary=temporary)
        saved.wait()
        assert saved.steps == [2, 4, 6] and saved.best == 2
    with Checkpoints(tmp_path / "c", keep=1, keep_every=4, writing=True) as saved:
        saved.save(7, state_at(7), {}, 0.7)  # what was saved before this process counts alike
    assert Checkpoints(tmp_path / "c").steps == [2, 4, 7]


def test_inference_reads_the_average_unless_it_asks_for_the_raw_parameters(tmp_path):
    state = state_at(3, ema=True)
    with Checkpoints(tmp_path / "c", writing=True) as saved:
        saved.save(3, state, {})
    saved, wanted = Checkpoints(tmp_path / "c"), shapes_of(state["parameters"])
    assert same(saved.restore_parameters(3, wanted), state["ema"])
    assert same(saved.restore_parameters(3, wanted, raw=True), state["parameters"])
    assert same(saved.restore(3, shapes_of(state)), state)


def test_hosts_that_see_different_folders_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "all_say", lambda subject, value: [value, [99]])
    monkeypatch.setattr(checkpoints, "LISTING_S", 1)
    with pytest.raises(CheckpointError, match="different from rank to rank .*99"):
        Checkpoints(tmp_path / "c", writing=True)


FULL = """
import resource, sys, time
from sleeplm_jax.checkpoints import Checkpoints
from sleeplm_jax.errors import CheckpointError
from tests.test_checkpoints import large, state_at
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
saved = Checkpoints(sys.argv[1], writing=True)
saved.save(1, state_at(1), {})
saved.save(2, large(2), {})
while saved.saving:
    time.sleep(0.01)
if sys.argv[2] == "next":
    saved.save(3, state_at(3), {})
else:
    saved.__exit__(None, None, None)
"""


def large(step):
    return {"parameters": {"w": jax.random.normal(jax.random.key(step), (300, 400))}}


@pytest.mark.parametrize("when", ["next", "exit"])
def test_a_file_that_cannot_be_written_is_told_and_leaves_the_checkpoints_before(tmp_path, when):
    """The system refuses to write past a size, as it does on a full disk."""
    folder = tmp_path / "c"
    done = subprocess.run([sys.executable, "-c", FULL, str(folder), when], capture_output=True,
                          text=True, timeout=120)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("sleeplm_jax.errors.CheckpointError: ")
    assert f"{folder}/2: saving failed (ValueError: " in last and "Failed to write" in last
    assert Checkpoints(folder).steps == [1]
    with Checkpoints(folder, writing=True) as saved:  # with room again it goes on
        assert saved.unfinished == [2]
        assert same(saved.restore(1, shapes_of(state_at(1))), state_at(1))
        saved.save(2, large(2), {})
    assert Checkpoints(folder).steps == [1, 2]
