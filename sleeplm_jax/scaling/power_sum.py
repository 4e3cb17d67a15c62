"""Losses as sums of power laws, L = c0 + sum_j cj exp(-aj xj), fitted to many resamples at once.

    B resamples   n runs   J power terms   P parameters   G points of the grid

Variable projection: at given exponents the loss is linear in the coefficients, which must not be
negative, so that they are solved for exactly (non-negative least squares over the 2^(J+1) - 1
possible supports) at every point of a grid of exponents; the best point starts a descent in all
parameters. (Czech et al. 2026, arXiv:2603.22339, fit Chinchilla's law so, and find it well
conditioned and free of the bias of isoFLOP parabolas.)
The grid works on relative residuals, c.x / L - 1, which are linear; the descent on the residuals
that count, log L - log prediction, under Huber's loss. The last of the terms may be of data that
are repeated; its x is then the logarithm of the effective data (see `effective_log`).
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

EXPONENTS = (0.01, 4.0)  # where exponents are looked for
REPEATS = (0.05, 1000.0)  # and the constant of repetition, in passes


@dataclasses.dataclass(frozen=True)
class Problem:
    """`n` runs: their losses, and for each of J terms a centred logarithm.

    `logs` [J, n] are ln(quantity) - `centres` [J]. With `repeats` [n] (passes after the first)
    the last term's row of `logs` is of the *unique* data.
    """

    losses: np.ndarray
    logs: np.ndarray
    centres: np.ndarray
    repeats: np.ndarray | None = None

    @property
    def terms(self) -> int:
        return len(self.logs)

    @property
    def size(self) -> int:
        """Parameters: the coefficients, the logarithms of the exponents, that of the repetition."""
        return 2 * self.terms + 1 + (self.repeats is not None)

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        low = [0.0] * (self.terms + 1) + [np.log(EXPONENTS[0])] * self.terms
        high = [np.inf] * (self.terms + 1) + [np.log(EXPONENTS[1])] * self.terms
        if self.repeats is not None:
            low.append(np.log(REPEATS[0]))
            high.append(np.log(REPEATS[1]))
        return np.array(low), np.array(high)


def problem_of(
    losses: np.ndarray, quantities: list[np.ndarray], repeats: np.ndarray | None = None
) -> Problem:
    """The problem of `losses` [n] in J `quantities` [n] each; of the last only its unique part."""
    logs = np.log(np.stack(quantities))
    centres = logs.mean(axis=1)
    return Problem(np.asarray(losses, float), logs - centres[:, None], centres, repeats)


def effective_log(repeats: np.ndarray, constant: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ln(effective data / unique data), and its derivative by ln(constant).

    Effective data of Muennighoff et al. 2023 (arXiv:2305.16264, unverified):
    U + U R (1 - exp(-s / R)) of U unique hours seen s times more, with the constant R in passes.
    Further passes are worth as much as new data while s is far below R, and all of them together
    at most R U. Shapes broadcast; `repeats` >= 0.
    """
    ratio = repeats / constant
    kept = np.exp(-ratio)
    gained = 1.0 - constant * np.expm1(-ratio)
    return np.log(gained), constant * (1.0 - kept * (1.0 + ratio)) / gained


def predicted(problem: Problem, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of parameters `values` [B, P] the losses [B, n], and d ln(loss) / d parameter [B, n, P]."""
    terms = problem.terms
    exponents = np.exp(values[:, terms + 1 : 2 * terms + 1])
    rows = np.broadcast_to(
        problem.logs, (len(values), *problem.logs.shape)
    ).copy()
    slope = None
    if problem.repeats is not None:
        gained, slope = effective_log(problem.repeats[None], np.exp(values[:, -1:]))
        rows[:, -1] += gained
    powers = np.exp(-exponents[:, :, None] * rows)
    parts = values[:, 1 : terms + 1, None] * powers
    losses = values[:, :1] + parts.sum(axis=1)
    losses = np.maximum(losses, 1e-300)  # all coefficients zero: a loss of no logarithm
    columns = [np.ones_like(losses)[:, None], powers, -parts * exponents[:, :, None] * rows]
    if slope is not None:
        columns.append((-parts[:, -1] * exponents[:, -1:] * slope)[:, None])
    slopes = np.concatenate(columns, axis=1) / losses[:, None]
    return losses, slopes.transpose(0, 2, 1)


def huber(residuals: np.ndarray, delta: float) -> tuple[np.ndarray, np.ndarray]:
    """Huber's loss and the weight with which least squares would have its gradient."""
    size = np.abs(residuals)
    far = size > delta
    return (
        np.where(far, delta * (size - 0.5 * delta), 0.5 * residuals**2),
        np.where(far, delta / np.maximum(size, 1e-300), 1.0),
    )


def non_negative(gram: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients c >= 0 that minimise c.gram.c - 2 right.c, and that minimum.

    `gram` [..., K, K], `right` [..., K], K <= 3. The minimum is the free solution on its own
    support, hence the least of the free solutions on all supports that turn out non-negative.
    """
    count = right.shape[-1]
    best = np.zeros_like(right)
    least = np.zeros(right.shape[:-1])
    for length in range(1, count + 1):
        for support in itertools.combinations(range(count), length):
            found, sound = _solve(gram, right, support)
            value = -sum(found[k] * right[..., i] for k, i in enumerate(support))
            better = sound & (value < least)
            for part in found:
                better &= part >= 0
            least = np.where(better, value, least)
            for i in range(count):
                part = found[support.index(i)] if i in support else 0.0
                best[..., i] = np.where(better, part, best[..., i])
    return best, least


def _solve(gram, right, support):
    """The free solution on a support of 1 to 3, by cofactors; False where it is singular."""
    def g(i, j):
        return gram[..., support[i], support[j]]

    r = [right[..., i] for i in support]
    scale = np.ones(right.shape[:-1])
    for i in range(len(support)):
        scale = scale * g(i, i)
    if len(support) == 1:
        determinant, raw = g(0, 0), [r[0]]
    elif len(support) == 2:
        determinant = g(0, 0) * g(1, 1) - g(0, 1) ** 2
        raw = [r[0] * g(1, 1) - r[1] * g(0, 1), r[1] * g(0, 0) - r[0] * g(0, 1)]
    else:
        c00 = g(1, 1) * g(2, 2) - g(1, 2) ** 2
        c01 = g(0, 2) * g(1, 2) - g(0, 1) * g(2, 2)
        c02 = g(0, 1) * g(1, 2) - g(0, 2) * g(1, 1)
        c11 = g(0, 0) * g(2, 2) - g(0, 2) ** 2
        c12 = g(0, 1) * g(0, 2) - g(0, 0) * g(1, 2)
        c22 = g(0, 0) * g(1, 1) - g(0, 1) ** 2
        determinant = g(0, 0) * c00 + g(0, 1) * c01 + g(0, 2) * c02
        raw = [
            r[0] * c00 + r[1] * c01 + r[2] * c02,
            r[0] * c01 + r[1] * c11 + r[2] * c12,
            r[0] * c02 + r[1] * c12 + r[2] * c22,
        ]
    sound = determinant > 1e-11 * scale
    safe = np.where(sound, determinant, 1.0)
    return [part / safe for part in raw], sound


def exponent_grid(problem: Problem, exponents: int, repeats: int) -> np.ndarray:
    """Logarithms of exponents, and of the repetition's constant, at all points: [G, J (+ 1)]."""
    axes = [np.linspace(np.log(0.03), np.log(2.0), exponents)] * problem.terms
    if problem.repeats is not None:
        axes.append(np.linspace(np.log(0.5), np.log(200.0), repeats))
    return np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=1)


def features(problem: Problem, grid: np.ndarray) -> np.ndarray:
    """What the coefficients multiply, over the loss: [G, n, J + 1], so that 1 is the aim."""
    rows = np.broadcast_to(problem.logs, (len(grid), *problem.logs.shape)).copy()
    if problem.repeats is not None:
        rows[:, -1] += effective_log(problem.repeats[None], np.exp(grid[:, -1:]))[0]
    powers = np.exp(-np.exp(grid[:, : problem.terms])[:, :, None] * rows)
    made = np.concatenate([np.ones((len(grid), 1, len(problem.losses))), powers], axis=1)
    return (made / problem.losses).transpose(0, 2, 1)


def starts(problem: Problem, weights: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """For each row of `weights` [B, n] the parameters [B, P] of the best point of the grid."""
    made = features(problem, grid)
    pairs = made[..., :, None] * made[..., None, :]  # [G, n, K, K]
    count, points = made.shape[-1], len(grid)
    flat = np.concatenate(
        [pairs.reshape(points, -1, count * count), made], axis=2
    ).transpose(1, 0, 2).reshape(len(problem.losses), -1)
    found = np.empty((len(weights), problem.size))
    step = max(1, 2_000_000 // flat.shape[1])
    for first in range(0, len(weights), step):
        some = weights[first : first + step]
        sums = (some @ flat).reshape(len(some), points, -1)
        gram = sums[..., : count * count].reshape(len(some), points, count, count)
        coefficients, least = non_negative(gram, sums[..., count * count :])
        best = np.argmin(least, axis=1)
        found[first : first + step, :count] = coefficients[np.arange(len(some)), best]
        found[first : first + step, count:] = grid[best]
    return found


def descend(
    problem: Problem, weights: np.ndarray, delta: float, values: np.ndarray, steps: int = 200
) -> tuple[np.ndarray, np.ndarray]:
    """Levenberg and Marquardt's descent of Huber's loss from `values` [B, P], within bounds.

    Each of the B problems weighs the runs by its row of `weights` [B, n] and goes its own way.
    Returns the parameters and the losses [B].
    """
    low, high = problem.bounds()
    values = np.clip(values, low, high)
    damping = np.full(len(values), 1e-2)
    aim = np.log(problem.losses)

    def objective(these, some):
        left = aim - np.log(predicted(problem, these)[0])
        return (some * huber(left, delta)[0]).sum(axis=1)

    reached = objective(values, weights)
    quiet = np.zeros(len(values), int)
    going = np.arange(len(values))
    for _ in range(steps):
        if not len(going):
            break
        here, some = values[going], weights[going]
        losses, slopes = predicted(problem, here)
        left = aim - np.log(losses)
        scaled = slopes * (some * huber(left, delta)[1])[:, :, None]
        gradient = -np.einsum("bnp,bn->bp", scaled, left)
        curvature = scaled.transpose(0, 2, 1) @ slopes
        stuck = ((here <= low) & (gradient > 0)) | ((here >= high) & (gradient < 0))
        gradient[stuck] = 0.0
        curvature[stuck[:, :, None] | stuck[:, None, :]] = 0.0
        diagonal = np.einsum("bpp->bp", curvature)
        floor = 1e-9 * diagonal.max(axis=1, keepdims=True) + 1e-30
        np.einsum("bpp->bp", curvature)[:] += damping[going, None] * diagonal + floor
        step = -np.linalg.solve(curvature, gradient[:, :, None])[:, :, 0]
        step[:, problem.terms + 1 :] = np.clip(step[:, problem.terms + 1 :], -1.0, 1.0)
        tried = np.clip(here + step, low, high)
        value = objective(tried, some)
        better = value < reached[going]
        gain = reached[going] - value
        small = np.abs(gain) <= 1e-9 * reached[going] + 1e-18
        values[going[better]] = tried[better]
        reached[going[better]] = value[better]
        damping[going] = np.clip(damping[going] * np.where(better, 0.2, 5.0), 1e-9, 1e9)
        quiet[going] = np.where(small, quiet[going] + 1, 0)
        going = going[(quiet[going] < 3) & (damping[going] < 1e9)]
    return values, reached
