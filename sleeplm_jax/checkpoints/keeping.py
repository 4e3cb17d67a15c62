"""Which checkpoints stay, and which is the best."""

from __future__ import annotations

from collections.abc import Mapping


def kept(notes: Mapping[int, dict], keep: int, keep_every: int) -> set[int]:
    """Which steps stay; `notes` is the metadata of each, empty where it cannot be read (such a
    checkpoint is not deleted unseen)."""
    steps = sorted(notes)
    lasting = [step for step in steps if notes[step] and not notes[step]["temporary"]]
    stay = set(lasting[-keep:]) | set(steps[-1:])
    stay |= {step for step in steps if not notes[step]}
    stay |= {step for step in lasting if keep_every and step % keep_every == 0}
    best = best_of(notes)
    stay |= set() if best is None else {best}
    # The newest may yet fail to be written: until it is there it must not be the only one.
    return stay | set(steps[-2:-1] if len(stay) == 1 else ())


def best_of(notes: Mapping[int, dict]) -> int | None:
    """Step of the lowest held-out loss. Of a run that went on with other data, among those of the
    data it is on now: losses of other people's nights do not compare."""
    readable = {step: note for step, note in notes.items() if note}
    if not readable:
        return None
    now = [readable[max(readable)].get(name) for name in ("corpus", "tokenizer")]
    scored = [
        (note["val_loss"], step) for step, note in readable.items()
        if note["val_loss"] is not None
        and [note.get(name) for name in ("corpus", "tokenizer")] == now
    ]
    return min(scored)[1] if scored else None
