"""Checkpoints by Orbax v1: the only room that knows it.

A run's `checkpoints/<step>` holds items: "parameters", "ema" where a run averages them, "progress"
(all else of the training state) and "about", JSON that says what they belong to and what they
must be. Orbax writes into a temporary folder and renames, so an interrupted save leaves the
checkpoints before it whole.

Kept are the latest ones, the best, and for ever those of steps that `keep_every` divides; one that
was saved for its time alone goes when a later one is there.
"""

from __future__ import annotations

import gc
import json
import math
import re
import shutil
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax

from sleeplm_jax.checkpoints.keeping import best_of, kept
from sleeplm_jax.checkpoints.orbax import (
    barriers_on_hosts,
    count_alike,
    orbax_v1,
    quiet,
    reason,
    save_errors,
)
from sleeplm_jax.depot import Depot
from sleeplm_jax.errors import CheckpointError, Interrupted
from sleeplm_jax.files import content_sha256, write_json
from sleeplm_jax.parallel.fingerprint import fingerprint
from sleeplm_jax.parallel.telling import all_say, first_says
from sleeplm_jax.places import Place, place

FORMAT = 2  # of the items; raised when an older version could not read them
ABOUT = "about"
LISTING_S = 120  # for a network file system to show all hosts the same
PROMPT_S = 0.5  # between two looks whether a save has failed that all wait for
LEAVING_S = 30.0  # for a save that goes on while its process ends for another reason
REMEDY = "choose another step, or delete this step's folder"


class Damaged(CheckpointError):
    """A checkpoint that cannot be read, or is not what was saved."""


class Checkpoints:
    """Saves, lists and restores the checkpoints of one run folder. Use as a context manager.

    Only the run's own training opens it `writing`: leftovers of a killed save are cleared then
    (`unfinished` names their steps), and a reader that cleared them would take away the save that
    a running training is in the middle of. `keep` latest ones stay, and all whose step
    `keep_every` divides (0: none).
    """

    def __init__(self, folder: str | Place, keep: int = 2, keep_every: int = 0, *,
                 writing: bool = False):
        self.folder = place(folder)
        # A store's checkpoints are seen as a folder of this machine, `here`.
        self.depot = Depot.of(self.folder, writing=writing, process=jax.process_index(),
                              processes=jax.process_count())
        self.here = Path(self.folder).absolute() if self.depot is None else self.depot.folder
        self.keep, self.keep_every = keep, keep_every
        self._notes: dict[int, dict] = {}
        self._pending: Any = None
        self._checkpointer: Any = None
        self.unfinished: list[int] = []
        if writing:
            self.unfinished = first_says("unfinished checkpoints", self._leftovers())
            self._checkpointer = self._writer()
            self._listed_alike()

    def _writer(self) -> Any:
        ocp = orbax_v1()
        if jax.process_count() > 1:
            barriers_on_hosts()
        registry = ocp.handlers.local_registry()
        registry.add(ocp.handlers.JsonHandler, checkpointable_name=ABOUT)
        context = ocp.Context(
            checkpointables_options=ocp.options.CheckpointablesOptions(registry=registry)
        )
        if self.depot is not None and jax.process_count() > 1:
            # Each process writes a folder of its own, and OCDBT would put them together in one.
            context.multiprocessing.primary_host = None
            context.array.saving.use_ocdbt = False
            context.array.saving.use_replica_parallel = False
        return ocp.training.Checkpointer(
            self.here,
            context=context,
            save_decision_policy=None,
            preservation_policy=_Policy(self),
            cleanup_tmp_directories=True,
        )

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind, *exc) -> None:
        if kind is not None and jax.process_count() > 1 and not issubclass(kind, Interrupted):
            # This process leaves by itself. Orbax would wait 20 minutes for ranks that wait for it.
            self._give(LEAVING_S)
            if self.depot is not None:
                self.depot.close()
            return
        try:
            self.wait()
        except CheckpointError:
            if kind is None:  # else what went wrong first is what is told
                raise
        finally:
            if self._checkpointer is not None:
                try:
                    self._checkpointer.close()
                except Exception:  # it tells the failure of the last save again
                    pass
            if self.depot is not None:
                self.depot.close()

    # ---- Writing

    @property
    def saving(self) -> bool:
        """Whether a save is still being written."""
        if self._pending is None:
            return False
        try:
            self._pending[1].result(timeout=0)
        except TimeoutError:
            return True
        except Exception:  # `wait` tells it
            pass
        return False

    def look(self) -> None:
        """Raises the error of a save that has failed meanwhile; waits for nothing."""
        if self._pending is not None and (self._failed() or not self.saving):
            self.wait()

    def _failed(self) -> BaseException | None:
        """Why this process could not write its part of the save under way."""
        return save_errors.last if jax.process_count() > 1 else None

    def _give(self, seconds: float) -> None:
        """Waits so long at most for the save under way, whose end nobody is told."""
        end = time.monotonic() + seconds
        while self.saving and time.monotonic() < end:
            time.sleep(0.1)

    def wait(self) -> None:
        """Waits for the save under way; its error surfaces here."""
        if self._pending is None:
            return
        (step, pending), self._pending = self._pending, None
        try:
            while jax.process_count() > 1:
                began = time.monotonic()
                try:
                    pending.result(timeout=PROMPT_S)
                    break
                except TimeoutError:
                    if time.monotonic() - began < PROMPT_S / 2:  # the save's own, not ours
                        raise
                if error := self._failed():
                    raise error
            pending.result()
        except Exception as error:  # a full disk arrives as many kinds
            self._notes.pop(step, None)
            raise CheckpointError(
                self.folder / str(step), f"saving failed ({reason(error)})",
                "see to the folder and its disk and run again: it goes on from the checkpoint "
                "before",
            ) from error
        # Orbax has ended saves as done that it had given up. Others' listings may lag.
        if jax.process_index() == 0 and step not in self.steps:
            self._notes.pop(step, None)
            raise CheckpointError(
                self.folder / str(step), "saving failed (it was given up before it was complete)",
                "see to the folder and its disk and run again: it goes on from the checkpoint "
                "before",
            )

    def save(self, step: int, state: Mapping[str, Any], metadata: dict,
             val_loss: float | None = None, *, temporary: bool = False) -> None:
        """Starts saving a training state in the background; all processes together.

        `metadata` is JSON: what the state belongs to. A `temporary` one is deleted when a later
        one is there. Returns when the state has been copied, so that it may be donated. Raises
        CheckpointError if the previous save failed, or this one cannot begin.
        """
        self.wait()
        items = _items(state)
        scored = val_loss is not None and math.isfinite(val_loss)
        about = {
            "format": FORMAT, "step": step, "time": datetime.now(UTC).isoformat("T", "seconds"),
            "val_loss": float(val_loss) if scored else None, "temporary": temporary,
            "fingerprints": {name: fingerprint(item) for name, item in items.items()},
        } | metadata
        about["sha256"] = content_sha256(about)
        self._notes[step] = about
        save_errors.last = None
        try:
            started = self._checkpointer.save_checkpointables_async(
                step, items | {ABOUT: about}, force=True, overwrite=True
            )
        except Exception as error:
            self._notes.pop(step, None)
            raise CheckpointError(
                self.folder / str(step), f"saving failed ({reason(error)})",
                "see to the folder and its disk and run again",
            ) from error
        if self.depot is not None:
            started = self.depot.follow(step, items, started, lambda: self.steps)
        self._pending = step, started

    def amend(self, step: int, metadata: dict, val_loss: float) -> None:
        """Says anew what a saved step belongs to, now with its held-out loss; the arrays stay as
        they are, so that a kill can cost nothing. All processes together."""
        self.wait()
        before = self._told(step)
        about = {name: before[name] for name in ("format", "step", "time", "fingerprints")}
        about |= {"val_loss": val_loss if math.isfinite(val_loss) else None, "temporary": False}
        about |= metadata
        about["sha256"] = content_sha256(about)
        if jax.process_index() == 0 or self.depot is not None:
            write_json(self.here / str(step) / ABOUT / "data.json", about)
        if self.depot is not None:
            self.depot.amend(step)
        self._notes[step] = about

    def _leftovers(self) -> list[int]:
        """Steps whose save was never finished."""
        if self.depot is not None:
            return self.depot.unfinished
        if not self.here.is_dir():
            return []
        names = [re.match(r"(\d+)(\.orbax-checkpoint-tmp.*)?$", path.name)
                 for path in self.here.iterdir() if path.is_dir()]
        begun = {int(match[1]) for match in names if match}
        return sorted(begun - set(self.steps))

    def _set_aside(self, step: int) -> Place:
        """Moves a step's folder out of the way, to `<run>/damaged`; returns where."""
        aside = self.folder.parent / "damaged"
        number, target = 1, aside / str(step)
        while target.exists():
            number += 1
            target = aside / f"{step}-{number}"
        if self.depot is not None:
            self.depot.set_aside(step, target)
            return target
        aside.mkdir(exist_ok=True)
        shutil.move(self.here / str(step), target)
        return target

    # ---- What there is

    @property
    def steps(self) -> list[int]:
        """Steps of whole checkpoints, sorted."""
        if not self.here.is_dir():
            return []
        names = orbax_v1().path.step.standard_name_format()
        return sorted(found.step for found in names.find_all(self.here))

    @property
    def latest(self) -> int | None:
        return self.steps[-1] if self.steps else None

    @property
    def best(self) -> int | None:
        """Step of the lowest held-out loss among those kept, the latest if none has one."""
        best = best_of({step: self._note(step) for step in self.steps})
        return self.latest if best is None else best

    def about(self, step: int) -> dict:
        """The metadata saved with a step; no array is read.

        Raises Damaged where they cannot be read, CheckpointError for another format.
        """
        where, here = self.folder / str(step), self.here / str(step)
        path = here / ABOUT / "data.json"
        try:
            about = json.loads(path.read_text())
            found = about["format"]
            if found == FORMAT and content_sha256(
                {name: value for name, value in about.items() if name != "sha256"}
            ) != about["sha256"]:
                raise ValueError("not what was saved")
        except Exception as error:  # unreadable, no JSON, no object
            if not path.exists() and (here / ABOUT / "_METADATA").exists():
                found = 1
            else:
                raise Damaged(where, f"has no readable metadata ({reason(error)})", REMEDY
                              ) from error
        if found != FORMAT:
            raise CheckpointError(
                where, f"has checkpoint format {found}, this version reads {FORMAT}",
                "use the version of sleeplm_jax that wrote it",
            )
        return about

    def _note(self, step: int) -> dict:
        """`about` where it can be read, else nothing."""
        if step not in self._notes:
            try:
                self._notes[step] = self.about(step)
            except CheckpointError:
                return {}
        return self._notes[step]

    # ---- Reading

    def restore(self, step: int, abstract_state: dict) -> dict:
        """The state of a step, in the shapes, types and shardings of `abstract_state`: on any
        devices, whatever it was saved from. All processes together.

        Raises Damaged, on all of them, when one cannot read it or it is not what was saved.
        """
        loaded = self._load(step, _items(abstract_state))
        progress = loaded.pop("progress", {})
        return loaded | progress

    def restore_parameters(self, step: int, abstract_parameters: dict, *, raw: bool = False
                           ) -> dict:
        """Only the parameters of a step: their average where the run kept one (EMA), unless
        `raw`."""
        averaged = not raw and "ema" in self.about(step)["fingerprints"]
        name = "ema" if averaged else "parameters"
        return self._load(step, {name: abstract_parameters})[name]

    def restore_newest(
        self, abstract_state: dict, accept: Callable[[dict], None], say: Callable[[str], None]
    ) -> tuple[int, dict, dict] | None:
        """`(step, state, metadata)` of the newest checkpoint that every process can read; None
        where there is no checkpoint. All processes together.

        `accept(metadata)` raises when a checkpoint belongs to something else, which ends the
        search. Damaged ones are said, and moved to `<run>/damaged` once a whole one is found.
        Raises CheckpointError when none can be read.
        """
        passed: list[tuple[int, str]] = []
        for step in first_says("checkpoints", self.steps)[::-1]:
            try:
                about = self._told(step)
                accept(about)
                state = self.restore(step, abstract_state)
            except Damaged as error:
                passed.append((step, error.finding))
                continue
            self._put_away(passed, step, say)
            return step, state, about
        if passed:
            findings = "; ".join(f"step {step} {finding}" for step, finding in passed)
            raise CheckpointError(
                self.folder, f"holds no checkpoint that can be read: {findings}",
                "bring one back from a copy, or give --name for a new run",
            )
        return None

    def _put_away(self, passed: list[tuple[int, str]], used: int, say) -> None:
        for step, finding in passed:
            mine = jax.process_index() == 0 or self.depot is not None
            moved = self._set_aside(step) if mine else ""
            moved = first_says("moved", str(moved))
            self._notes.pop(step, None)
            say(f"checkpoint {step} {finding}: passed over for {used}, moved to {moved}")
        if passed and self._checkpointer is not None:
            self._checkpointer.reload()
            self._listed_alike()

    def _listed_alike(self) -> None:
        """Waits until all processes see the same steps: a network file system may show a host an
        older state for a minute, and Orbax would wait for ever for one that sees another."""
        for _ in range(LISTING_S):
            seen = [checkpoint.step for checkpoint in self._checkpointer.checkpoints]
            all_seen = all_say("checkpoints", seen)
            if all(other == all_seen[0] for other in all_seen):
                return
            time.sleep(1)
            self._checkpointer.reload()
        raise CheckpointError(
            self.folder, f"looks different from rank to rank ({all_seen})",
            "give all hosts the same folder",
        )

    def _told(self, step: int) -> dict:
        """`about` as rank 0 reads it, or the error it meets, on every process."""
        told: dict = {}
        if jax.process_index() == 0:
            try:
                told = {"about": self.about(step)}
            except CheckpointError as error:
                told = {"damaged": isinstance(error, Damaged), "finding": error.finding,
                        "remedy": error.remedy}
        told = first_says(f"metadata of checkpoint {step}", told)
        if "about" in told:
            return told["about"]
        kind = Damaged if told["damaged"] else CheckpointError
        raise kind(self.folder / str(step), told["finding"], told["remedy"])

    def _load(self, step: int, abstract: dict[str, Any]) -> dict[str, Any]:
        """The items of a step that `abstract` names; all processes together."""
        where, about = self.folder / str(step), self._told(step)
        loaded, finding = {}, "" if self.depot is None else self.depot.bring(step, abstract)
        if not finding:
            loaded, finding = self._read(self.here / str(step), abstract)
        if jax.process_count() > 1:
            count_alike()
        for rank, said in enumerate(all_say(f"checkpoint {step}", finding)):
            if said:
                said += f" by rank {rank}" if jax.process_count() > 1 else ""
                raise Damaged(where, said, REMEDY)
        for name, item in loaded.items():
            if fingerprint(item) != about["fingerprints"].get(name):
                raise Damaged(where, f"is not what was saved (its {name} differ)", REMEDY)
        return loaded

    def _read(self, where: Path, abstract: dict[str, Any]) -> tuple[dict[str, Any], str]:
        """Items, or why they cannot be read; as if this process were alone, since a rank that
        fails must not leave the others waiting."""
        ocp, rank = orbax_v1(), jax.process_index()
        alone = ocp.options.MultiprocessingOptions(primary_host=rank, active_processes={rank})
        finding = ""
        with quiet():
            try:
                with ocp.Context(multiprocessing_options=alone):
                    return ocp.load_checkpointables(where, abstract), ""
            except Exception as error:  # Orbax raises many kinds for a damaged checkpoint
                finding = f"cannot be read ({reason(error)})"
            gc.collect()
        return {}, finding


class _Policy:
    """Orbax' question after each save, which checkpoints stay."""

    def __init__(self, owner: Checkpoints):
        self.owner = owner

    def should_preserve(self, checkpoints, *, context) -> list[bool]:
        steps = [checkpoint.step for checkpoint in checkpoints]
        notes = {step: self.owner._note(step) for step in steps}
        stay = kept(notes, self.owner.keep, self.owner.keep_every)
        return [step in stay for step in steps]


def _items(state: Mapping[str, Any]) -> dict[str, Any]:
    """A training state as items: apart what inference reads, a third of the bytes or less."""
    apart = {name: state[name] for name in ("parameters", "ema") if name in state}
    progress = {name: value for name, value in state.items() if name not in apart}
    return apart | ({"progress": progress} if progress else {})


def abstract(tree: Any, shardings: Any) -> Any:
    """Shapes and types of `tree` with shardings, to restore into."""
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, shardings
    )
