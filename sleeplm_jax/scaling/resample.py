"""The bootstrap by run: whole runs are drawn with replacement, with all that they measured."""

from __future__ import annotations

import numpy as np

from sleeplm_jax.scaling.collect import StudyError, Table

SIZES, SCALES = 3, 3  # of different N and D, without which an exponent and E are one


def enough(data: Table, parameters: int) -> str | None:
    """Why the runs are too few for a fit of so many parameters; None where they are not."""
    sizes, scales = len(np.unique(data.N)), len(np.unique(data.D))
    cells = len(np.unique(data.point))
    if sizes < SIZES:
        return f"{sizes} model size{'s'[: sizes > 1]}, and a power of N needs {SIZES}"
    if scales < SCALES:
        return f"{scales} amount{'s'[: scales > 1]} of data, and a power of D needs {SCALES}"
    if cells < parameters + 2:
        return f"{cells} cells, and {parameters} parameters need {parameters + 2}"
    return None


def resamples(
    data: Table, count: int, parameters: int, generator: np.random.Generator
) -> tuple[np.ndarray, int]:
    """How often each run is drawn, [count, n]; and how many draws were made again.

    A draw that has fewer than three sizes, three amounts of data or `parameters` + 1 cells
    determines no fit and is made again; of studies worth a fit that happens to a few per cent.
    Raises StudyError where it happens nearly always.
    """
    n = len(data.runs)
    columns = [np.unique(values, return_inverse=True)[1] for values in (data.N, data.D)]
    columns.append(data.point)
    least = (SIZES, SCALES, parameters + 1)
    found, redrawn = [], 0
    for _ in range(50):
        drawn = generator.multinomial(n, np.full(n, 1 / n), size=count)
        sound = np.ones(count, bool)
        for values, needed in zip(columns, least):
            member = np.zeros((n, values.max() + 1))
            member[np.arange(n), values] = 1
            sound &= ((drawn @ member) > 0).sum(axis=1) >= needed
        found.append(drawn[sound])
        if sum(map(len, found)) >= count:
            return np.concatenate(found)[:count].astype(float), redrawn + int((~sound).sum())
        redrawn += int((~sound).sum())
    raise StudyError(
        "scaling fit", f"{n} runs are too few to be resampled ({redrawn} draws without three "
        "sizes and amounts of data)", "run more cells",
    )
