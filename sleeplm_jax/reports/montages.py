"""What `sleeplm montage` shows: coverage of a cohort, and what a montage holds."""

from __future__ import annotations

from rich.console import Group
from rich.markup import escape
from rich.table import Table

MOST_LABELS = 40  # of a cohort's unknown ones; --json gives all


def coverage(found: dict) -> Group:
    """`Coverage.as_dict()` as a rich renderable: a row a channel, then labels nobody knows."""
    total, judged = found["recordings"], found["judged"]
    unverified = found["unverified_montages"]
    named = ", ".join(
        escape(name) + (" [yellow](unverified)[/]" if name in unverified else "")
        for name in found["montages"]
    )
    table = Table(
        title=f"{escape(found['cohort'])}: {total:,} recording{'' if total == 1 else 's'}, montage "
        + named,
        title_justify="left", pad_edge=False,
    )  # fmt: skip
    mark = " [yellow]?[/]" if unverified else ""
    for heading, justify in (("channel", "left"), ("resolves in", "right"), ("from", "left")):
        table.add_column(heading, justify=justify)
    for name, row in found["channels"].items():
        sources = ", ".join(f"{source} {count:,}" for source, count in row["sources"].items())
        reasons = "; ".join(row["reasons"])
        table.add_row(
            f"[bold]{name}[/]", share(row["share"]) + mark,
            escape(sources) + (f"[dim]{' ' if sources else ''}{escape(reasons)}[/]"),
            style=None if row["share"][1] else "dim",
        )  # fmt: skip
    parts = [table]
    if unverified:
        tables = escape(", ".join(unverified))
        parts.append(
            f"[yellow]?[/] counted with an unverified table ({tables}): what its labels mean was "
            "not found in the cohort's own documentation or files."
        )
    if judged < total:
        parts.append(
            f"{total - judged:,} recordings are not listed label by label: hence shares as ranges."
        )
    unknown = list(found["unknown_labels"].items())
    if unknown:
        shown = ", ".join(f"{label} {count:,}" for label, count in unknown[:MOST_LABELS])
        more = f" and {len(unknown) - MOST_LABELS} more" if len(unknown) > MOST_LABELS else ""
        parts.append(f"[bold]{len(unknown)} labels that no row names:[/] {escape(shown)}{more}")
    if others := found["other_labels"]:
        named = ", ".join(f"{label} ({what})" for label, what in others.items())
        parts.append(f"[bold]Known, no channel of ours or not settled which:[/] {escape(named)}")
    return Group(*parts, "")


def share(bounds: list[float]) -> str:
    """"99.1 %", or "99.1-100 %" where only bounds are known."""
    low, high = (_percent(value) for value in bounds)
    return f"{low} %" if low == high else f"{low}-{high} %"


def _percent(value: float) -> str:
    """One decimal, and 100 only where it is all of them."""
    return "100" if value == 1 else "0" if value == 0 else f"{min(100 * value, 99.9):.1f}"


def held(montage) -> Group:
    """What a parsed montage holds: a row a candidate."""
    table = Table(
        title=f"{escape(montage.name)}: {escape(montage.description)}"
        + ("" if montage.verified else " [yellow](unverified)[/]"),
        title_justify="left", pad_edge=False,
    )  # fmt: skip
    for heading in ("channel", "derivation", "more", "citation"):
        table.add_column(heading)
    for name, rows in montage.channels.items():
        for row in rows:
            more = [row.transducer or "", "stand-in" if row.stand_in else "",
                    f"unit {row.unit}" if row.unit else "",
                    f"times {row.scale:g}" if row.scale != 1 else "",
                    "turned over" if row.polarity < 0 else "",
                    f"not read: {row.unusable}" if row.unusable else "", row.note]  # fmt: skip
            table.add_row(
                f"[bold]{name}[/]", escape(row.expr), escape(", ".join(m for m in more if m)),
                f"[dim]{escape(row.citation)}[/]",
            )  # fmt: skip
    facts = [
        ("cohorts", ", ".join(montage.cohorts)), ("subject", montage.subject),
        ("family", montage.family), ("sources", "; ".join(montage.sources)),
        ("scoring", "; ".join(f"{k} {v}" for k, v in _dialect(montage.dialect).items())),
        ("other labels", ", ".join(f"{label} ({what})" for label, what in montage.others)),
    ]  # fmt: skip
    return Group(table, *(f"[bold]{k}:[/] {escape(v)}" for k, v in facts if v))


def _dialect(dialect) -> dict:
    found = {"rules": dialect.rules if dialect.rules != "unknown" else None,
             "format": dialect.format, "hypopnoea:": dialect.hypopnea_rule,
             "stages": ", ".join(f"{a}={b}" for a, b in dialect.stages),
             "events": ", ".join(f"{a}={b}" for a, b in dialect.events),
             "flags": ", ".join(dialect.flags)}  # fmt: skip
    return {key: value for key, value in found.items() if value}


def listed(montages) -> Table:
    """The montages that come with the package: one row each."""
    table = Table(pad_edge=False)
    for heading in ("montage", "cohorts", "channels", "sources", "what"):
        table.add_column(heading)
    for montage in montages:
        table.add_row(
            f"[bold]{montage.name}[/]", escape(", ".join(montage.cohorts)),
            str(len(montage.channels)),
            f"{len(montage.sources)} read" if montage.verified else "[yellow]unverified[/]",
            escape(montage.description),
        )  # fmt: skip
    return table
