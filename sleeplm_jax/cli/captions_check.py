"""`sleeplm captions ...`: captions held against the measurements they are made of."""

from __future__ import annotations

from sleeplm_jax.cli.saying import PathArgument, console, say
from sleeplm_jax.errors import UserError


def captions_check(corpus: PathArgument, samples: int = 500, seed: int = 0) -> int:
    """Read captions of a corpus back and compare them with its measurements; exact or status 1.

    Renders every kind of caption in every style and level, of what the input shows and of the
    whole record, and counts the statements that come back as they were measured.

    Args:
        corpus: Folder or address that `prepare` wrote.
        samples: How many epochs, evenly spaced over all splits.
        seed: Of the wordings.
    """
    import numpy as np

    from sleeplm_jax.captions.check import check_captions
    from sleeplm_jax.corpus.manifest import Corpus
    from sleeplm_jax.reports.terminal import caption_checks

    if samples < 1:
        raise UserError("--samples", f"is {samples}", "give 1 or more")
    if seed < 0:
        raise UserError("--seed", f"is {seed}", "give 0 or more")
    opened = Corpus.open(corpus)

    total = sum(opened.samples(split) for split in opened.splits)

    def records():
        for split in opened.splits:
            held, source = opened.samples(split), opened.source(split)
            wanted = min(held, max(1, round(samples * held / total)))
            for index in np.linspace(0, held - 1, wanted).astype(int).tolist():
                yield f"{split} sample {index}", source[index]["record"]

    found = check_captions(records(), opened.spec, seed)
    console().print(caption_checks(found))
    for line in found.findings:
        say(line)
    stated = sum(line.stated for line in found.lines)
    agreed = sum(line.agreed for line in found.lines)
    say(f"{found.captions:,} captions of {found.records:,} epochs: {agreed:,} of {stated:,} "
        f"statements come back as measured")
    return 1 if found.findings else 0
