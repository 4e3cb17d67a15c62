"""What `sleeplm inspect` shows: every signal of a recording, and where each channel comes from."""

from __future__ import annotations

from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table


def print_inspection(found: dict, console: Console | None = None) -> None:
    """Prints `recordings.inspection.inspect_recording`'s result as two tables and remarks."""
    (console or Console()).print(inspection(found))


def inspection(found: dict) -> Group:
    """The same as a rich renderable."""
    start = f", starts at {found['start_clock']}" if found["start_clock"] else ""
    head = (
        f"[bold]{escape(found['file'])}[/]  {_length(found['duration_s'])}{start}, "
        f"montage [bold]{escape(found['montage'])}[/], "
        f"scoring: {escape(found['scoring'] or 'none found')}"
    )
    channels = Table(title="Canonical channels", title_justify="left", pad_edge=False)
    for heading, justify in (("channel", "left"), ("source", "left"), ("rate Hz", "right"),
                             ("unit", "left"), ("scale", "right"), ("why", "left")):
        channels.add_column(heading, justify=justify)
    for name, row in found["channels"].items():
        if row is None:
            reasons = "; ".join(found.get("unresolved", {}).get(name, []))
            channels.add_row(name, "[red]missing[/]", "", "", "", f"[dim]{escape(reasons)}[/]")
            continue
        mark = " [yellow](stand-in)[/]" if row["stand_in"] else ""
        channels.add_row(
            f"[bold]{name}[/]", escape(row["source"]) + mark, f"{row['rate']:g}",
            escape(row["unit"]), f"{row['scale']:g}", escape(row["why"]),
        )
    signals = Table(title=f"{len(found['signals'])} signals in the file", title_justify="left",
                    pad_edge=False)
    for heading, justify in (("label", "left"), ("rate Hz", "right"), ("unit", "left"),
                             ("from", "right"), ("to", "right"), ("used for", "left")):
        signals.add_column(heading, justify=justify)
    for row in found["signals"]:
        used = ", ".join(row["resolves_to"])
        signals.add_row(
            escape(row["label"]), f"{row['rate']:g}", escape(row["unit"]), _value(row["min"]),
            _value(row["max"]), used, style=None if used else "dim",
        )
    parts = [head, signals, channels]
    if found["flags"]:
        parts.append("[bold]Remarks[/]\n" + "\n".join(f"  {escape(f)}" for f in found["flags"]))
    return Group(*parts)


def _length(seconds: float) -> str:
    hours, minutes = int(seconds // 3600), int(seconds // 60) % 60
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds % 60:02.0f} s"


def _value(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def checks(found: list) -> Table:
    """`corpus.check.check_corpus`'s result as a rich table."""
    table = Table(title="Checks", title_justify="left", pad_edge=False)
    for heading in ("check", "looked at", "found"):
        table.add_column(heading)
    for check in found:
        verdict = "[red]a leak or damage[/]" if check.findings else "nothing"
        if check.looked_at.startswith("not "):
            verdict = ""
        notes = "".join(f"\n[dim]{escape(note)}[/]" for note in check.notes)
        table.add_row(check.name, escape(check.looked_at), verdict + notes)
    return table


def caption_checks(found) -> Table:
    """`captions.check.check_captions`'s result as a rich table."""
    table = Table(title="Captions read back", title_justify="left", pad_edge=False)
    for heading, justify in (("kind", "left"), ("statement", "left"), ("stated", "right"),
                             ("exact", "right"), ("furthest from the measurement", "right")):
        table.add_column(heading, justify=justify)
    kind = None
    for line in found.lines:
        share = f"{100 * line.agreed / line.stated:.4g} %" if line.stated else ""
        off = "" if line.worst is None else f"{line.worst:.3g} (allowed {line.allowed:g})"
        table.add_row(
            line.kind.replace("_", " ") if line.kind != kind else "",
            line.feature.replace("_", " "), f"{line.stated:,}",
            share if line.agreed == line.stated else f"[red]{share}[/]", off,
        )
        kind = line.kind
    return table
