"""`evaluation.json` as a table on a terminal: figure, interval, majority, chance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sleeplm_jax.config import STAGES

if TYPE_CHECKING:
    from rich.table import Table

STAGING = (
    ("kappa", "Cohen's kappa"), ("accuracy", "accuracy"),
    ("balanced_accuracy", "balanced accuracy"), ("macro_f1", "macro F1"),
    ("macro_auroc", "macro AUROC"),
)
WAYS = (("text_to_signal", "text → signal"), ("signal_to_text", "signal → text"))
TASKS = (
    ("Prompted staging", ("prompted_staging", "in_template")),
    ("  held-out wording", ("prompted_staging", "held_out")),
    ("  epochs with clean EEG", ("prompted_staging", "clean_epochs")),
    ("Linear head, same encoder", ("linear_head",)),
)


def table(result: dict) -> Table:
    """A rich table of what `suite.evaluate` returned."""
    from rich.table import Table

    subjects = f"{result['subjects']} subject{'s' if result['subjects'] != 1 else ''}"
    title = f"{result['corpus']['split']}: {subjects}, {result['epochs']:,} epochs"
    if result["simulated"]:
        title += " (SIMULATED nights)"
    shown = Table(title=title, caption=result["note"], title_style="bold", pad_edge=False)
    shown.add_column("task")
    shown.add_column("figure")
    for heading in ("value", "95 % interval", "majority", "chance"):
        shown.add_column(heading, justify="right")
    for label, path in TASKS:
        found = _at(result, path)
        if found is None:
            continue
        if not found.get("n"):
            shown.add_row(label, found.get("why", ""), "-", "", "", "")
            continue
        for number, (name, words) in enumerate(STAGING):
            interval = (found.get("interval") or {}).get(name)
            shown.add_row(
                label if number == 0 else "", words, _number(found.get(name)),
                f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else "",
                _number(found["majority"].get(name)), _number(found["chance"].get(name)),
            )
        each = "  ".join(
            f"{stage} {_number(found['per_stage'][stage]['f1'], 2)}" for stage in STAGES
        )
        shown.add_row("", f"F1 {each}", "", "", "", "", end_section=True)
    for kind, found in result.get("retrieval", {}).items():
        if "chance" not in found:
            continue
        for way, words in WAYS:
            first = way == "text_to_signal"
            for name in ("R@1", "R@10", "median_rank") if kind == "all_kinds" else ("R@1",):
                shown.add_row(
                    f"Retrieval of {found['gallery']}: {kind.replace('_', ' ')}"
                    if first and name == "R@1" else "",
                    f"{words} {name.replace('_', ' ')}",
                    _number(found[way][name], 3 if name[0] == "R" else 1), "", "",
                    _number(found["chance"][name], 3 if name[0] == "R" else 1),
                )
    if "retrieval" in result:
        shown.add_section()
    found = result.get("captions")
    if found and found["total"].get("tokens"):
        rows = {"all kinds": found["total"]} | found["kinds"]
        for number, (kind, part) in enumerate(rows.items()):
            if not part.get("tokens"):
                continue
            baselines = ", ".join(
                f"{name.replace('_', ' ')} {part[name]['loss']:.2f}"
                for name in ("other_signal", "unigram") if name in part
            )
            shown.add_row(
                "Caption loss (nats/token)" if number == 0 else "",
                f"{kind.replace('_', ' ')} ({part['tokens']:,} tokens; {baselines})",
                _number(part["loss"]), "", "", "",
            )
        _generated(shown, found["kinds"])
    return shown


def _generated(shown: Table, kinds: dict) -> None:
    """Rows of what generated captions state: mean absolute errors, beside another epoch's."""
    shown.add_section()
    first = "Generated captions"
    for part in kinds.values():
        grades = part.get("generated")
        if not grades:
            continue
        other = grades.get("other_epoch", {})
        rows = []
        if grades.get("stage", {}).get("n"):
            rows += [(("stage", "agreement"), "stage right"), (("events", "exact"), "events exact")]
        for feature, found in grades["features"].items():
            if found["n"] and found.get("mae") is not None:
                about = (f"stated {_percent(found['stated'])}, "
                         f"invented {_percent(found['invented'])}")
                rows.append((("features", feature, "mae"),
                             f"error of {feature.replace('_', ' ')} ({about})"))
        for path, words in rows:
            beside = _number(_at(other, path), 2)
            shown.add_row(first, f"{words}; another epoch's caption {beside}",
                          _number(_at(grades, path), 2), "", "", "")
            first = ""


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"


def _at(result: dict, path: tuple[str, ...]) -> dict | None:
    for name in path:
        result = result.get(name)
        if result is None:
            return None
    return result


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
