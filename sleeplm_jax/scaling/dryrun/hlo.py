"""Collectives of a compiled program, read from its HLO text. No JAX here.

A scanned stack is one `while` whose body stands in the text once: what is in a body counts as
often as it runs. Sizes are those of one device's program.
"""

from __future__ import annotations

import collections
import functools
import math
import re
from dataclasses import dataclass, replace

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
# Between a sum and the slice of it that a device keeps: nothing that changes its elements.
PASSING = ("convert", "bitcast", "reshape", "copy", "transpose")
BITS = re.compile(r"\d+")
SHAPE = re.compile(r"\b(pred|[a-z]+\d+[a-z0-9]*)\[([\d,]*)\]")
HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
NAME = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = ")
CALLED = re.compile(r"\b(?:calls|to_apply|body|branch_computations|true_computation|"
                    r"false_computation)=\{?(%[\w.\-]+(?:, ?%[\w.\-]+)*)")
TRIPS = re.compile(r'"?known_trip_count"?:\{"?n"?:"?(\d+)')
OPERANDS = re.compile(r"%([\w.\-]+)")
MESH = re.compile(
    r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\))?\s*"
    r"\{([^}]*)\}"
)


@dataclass(frozen=True)
class Collective:
    """`count` collectives of a step. `bytes` of one: what a sum sums, what a gather ends with,
    what a scatter starts from, what is sent on. `groups` are partition numbers; `starts` is how
    often they are started, those that stand together once."""

    kind: str
    bytes: int
    groups: tuple[tuple[int, ...], ...]
    count: int
    starts: float
    where: str  # of the program: the operation's name

    @property
    def ring(self) -> bool:
        """Whether it is a ring loss': so many of them as devices stand in the ring."""
        return "ppermute" in self.where


@dataclass
class _Line:
    name: str
    shape: str
    operation: str
    rest: str


def collectives(text: str, devices: int) -> tuple[list[Collective], int]:
    """`(collectives, loops)` of an HLO module; `loops` are loops with collectives in them whose
    length the text does not tell, counted as one round each."""
    computations, entry = _computations(text)
    unknown = 0

    @functools.cache
    def of(name: str) -> tuple[tuple[Collective, int], ...]:
        nonlocal unknown
        found: collections.Counter = collections.Counter()
        lines = computations.get(name, {})
        users = _users(lines)
        here = [_collective(line, lines, users, devices) for line in lines.values()]
        here = [one for one in here if one is not None]
        together = collections.Counter((one.kind, one.groups, one.where) for one in here)
        for one in here:
            alike = together[one.kind, one.groups, one.where]
            found[replace(one, starts=1 / alike)] += 1
        for line in lines.values():
            for called in _called(line):
                inner, times = of(called), 1
                if line.operation == "while" and inner:
                    times = _trips(line, computations)
                    if times is None:
                        unknown, times = unknown + 1, 1
                for one, count in inner:
                    found[one] += count * times
        return tuple(found.items())

    if entry is None:
        raise ValueError("the HLO text has no ENTRY computation")
    return [
        replace(one, count=count, starts=one.starts * count) for one, count in of(entry)
    ], unknown


def _computations(text: str) -> tuple[dict[str, dict[str, _Line]], str | None]:
    found: dict[str, dict[str, _Line]] = {}
    entry, lines = None, None
    for raw in text.splitlines():
        if raw[:1] not in (" ", "\t", "}", "") and (head := HEAD.match(raw)):
            lines = found.setdefault(head[2], {})
            entry = head[2] if head[1] else entry
        elif lines is not None and (name := NAME.match(raw)):
            shape, rest = _typed(raw[name.end():])
            operation, _, rest = rest.partition("(")
            lines[name[2]] = _Line(name[2], shape, operation.strip(), rest)
    return found, entry


def _typed(text: str) -> tuple[str, str]:
    """A value's type and what follows it; a tuple's type has parentheses and spaces."""
    if not text.startswith("("):
        shape, _, rest = text.partition(" ")
        return shape, rest
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return text[: place + 1], text[place + 1:].lstrip()
    raise ValueError(f"a type that does not end: {text[:80]}")


def _users(lines: dict[str, _Line]) -> dict[str, list[_Line]]:
    users: dict[str, list[_Line]] = collections.defaultdict(list)
    for line in lines.values():
        for name in set(OPERANDS.findall(_arguments(line.rest))):
            users[name].append(line)
    return users


def _arguments(rest: str) -> str:
    depth = 1
    for place, letter in enumerate(rest):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return rest[:place]
    return rest


def _called(line: _Line) -> list[str]:
    """Computations that run where this line stands; those that sum two numbers are none."""
    if line.operation.startswith(KINDS) or line.operation in ("reduce", "scatter", "sort", "map"):
        return []
    return [name.strip(" %") for group in CALLED.findall(line.rest) for name in group.split(",")]


def _trips(line: _Line, computations) -> int | None:
    """Rounds of a while: annotated, or read from its condition `i < constant` (from 0)."""
    if found := TRIPS.search(line.rest):
        return int(found[1])
    condition = re.search(r"condition=%([\w.\-]+)", line.rest)
    lines = computations.get(condition[1], {}) if condition else {}
    for one in lines.values():
        if one.operation == "compare" and "direction=LT" in one.rest:
            for name in OPERANDS.findall(_arguments(one.rest)):
                constant = lines.get(name)
                if constant is not None and constant.operation == "constant":
                    number = re.match(r"(\d+)\)", constant.rest)
                    return int(number[1]) if number else None
    return None


def _collective(line: _Line, lines, users, devices: int) -> Collective | None:
    kind = line.operation.removesuffix("-start")
    if kind not in KINDS or line.operation.endswith("-done"):
        return None
    groups = _groups(line.rest, devices)
    size = _bytes(line.shape)
    if line.operation.endswith("-start") and kind != "all-reduce":
        # A pair of what goes in and what comes out, and two counters beside a permute.
        parts = [_bytes(part) for part in _members(line.shape)]
        size = parts[1] if len(parts) > 1 else size
    if kind == "reduce-scatter":
        size *= len(groups[0])
    if kind == "all-reduce" and _sliced(line, users, len(groups[0])):
        kind = "reduce-scatter"
    named = re.search(r'op_name="([^"]*)"', line.rest)
    return Collective(kind, size, groups, 1, 1.0, named[1] if named else "")


def _sliced(line: _Line, users, ways: int) -> bool:
    """Whether of a sum each device keeps its own part only: what GPUs and TPUs make one operation
    of, and the partitioner leaves as two."""
    size, one = _elements(line.shape), line
    for _ in range(8):
        following = users.get(one.name, [])
        if len(following) != 1:
            return False
        one = following[0]
        if one.operation == "dynamic-slice":
            return ways > 1 and _elements(one.shape) * ways == size
        if one.operation not in PASSING:
            return False
    return False


def _members(shape: str) -> list[str]:
    """Outermost members of a tuple's type."""
    found, depth, start = [], 0, 1
    for place, letter in enumerate(shape):
        if letter in "([{":
            depth += 1
        elif letter in ")]}":
            depth -= 1
        if (letter == "," and depth == 1) or (depth == 0 and place):
            found.append(shape[start:place])
            start = place + 1
    return found


def _elements(shape: str) -> int:
    return sum(math.prod(map(int, dims.split(","))) if dims else 1
               for _, dims in SHAPE.findall(shape))


def _bytes(shape: str) -> int:
    total = 0
    for dtype, dims in SHAPE.findall(shape):
        bits = 8 if dtype == "pred" else int(BITS.search(dtype)[0])
        total += (math.prod(map(int, dims.split(","))) if dims else 1) * bits // 8
    return total


# ---- Who takes part


def _groups(rest: str, devices: int) -> tuple[tuple[int, ...], ...]:
    if pairs := re.search(r"source_target_pairs=\{(.*?)\}\}", rest):
        return tuple(
            tuple(map(int, pair.split(","))) for pair in re.findall(r"\{([\d,]+)\}?", pairs[0])
        )
    if listed := re.search(r"replica_groups=\{(\{.*?\})\}", rest):
        return tuple(tuple(map(int, g.split(","))) for g in re.findall(r"\{([\d,]+)\}", listed[1]))
    if iota := re.search(r"replica_groups=\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", rest):
        return _iota(int(iota[2]), [int(n) for n in iota[3].split(",")],
                     [int(n) for n in iota[4].split(",")] if iota[4] else None)
    if mesh := MESH.search(rest):
        return _along_axes(mesh, devices)
    if re.search(r"replica_groups=\{\}", rest):
        return (tuple(range(devices)),)
    raise ValueError(f"replica groups in a form that is not known: {rest[:300]}")


def _along_axes(mesh, devices: int) -> tuple[tuple[int, ...], ...]:
    """Groups along named axes of a mesh whose devices are numbered in order, or in one that is
    given as an iota of other dimensions, transposed."""
    sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", mesh[1])}
    along, names = re.findall(r"'(\w+)'", mesh[4]), list(sizes)
    if math.prod(sizes.values()) != devices or ":(" in mesh[4]:
        raise ValueError(f"replica groups in a form that is not known: {mesh[0]}")
    order = [i for i, n in enumerate(names) if n not in along]
    order += [names.index(n) for n in along]
    groups = _iota(math.prod(sizes[n] for n in along), list(sizes.values()), order)
    if mesh[2] is None:
        return groups
    dims = [int(n) for n in mesh[2].split(",")]
    numbers = _iota(devices, dims, [int(n) for n in mesh[3].split(",")] if mesh[3] else None)[0]
    return tuple(tuple(numbers[i] for i in group) for group in groups)


@functools.lru_cache(maxsize=512)
def _iota_cached(ways: int, sizes: tuple, order: tuple | None) -> tuple[tuple[int, ...], ...]:
    numbers = list(range(math.prod(sizes)))
    if order is not None:
        strides = [math.prod(sizes[i + 1:]) for i in range(len(sizes))]
        numbers = [0]
        for axis in order:
            numbers = [n + k * strides[axis] for n in numbers for k in range(sizes[axis])]
    return tuple(tuple(numbers[i:i + ways]) for i in range(0, len(numbers), ways))


def _iota(ways: int, sizes: list[int], order: list[int] | None):
    return _iota_cached(ways, tuple(sizes), None if order is None else tuple(order))
