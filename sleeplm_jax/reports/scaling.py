"""A scaling study's report: pictures, laws with their intervals, cells, what they cost, and the
size and data that a budget asks for. Made of results.jsonl and fit.json alone.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence

from sleeplm_jax import __version__
from sleeplm_jax.errors import UserError
from sleeplm_jax.files import file_sha256, write_atomically
from sleeplm_jax.places import Place, place
from sleeplm_jax.reports.scaling_figures import UNITS, names_of, words
from sleeplm_jax.reports.scaling_plan import count, lasting
from sleeplm_jax.scaling.collect import RESULTS, collect
from sleeplm_jax.scaling.fit_text import isoflop_curves, misfit

FIT, PAGE = "fit.json", "report.html"
PICTURES = (
    ("isoflop", "Loss over size at equal compute",
     "Each colour is one budget. A parabola in ln N stands where a budget has three sizes or more; "
     "its lowest point is the best size for that budget. Open dots and thin lines: less sleep, "
     "seen again."),
    ("compute", "Loss over compute",
     "Circles: cells that no cheaper one beats. Their saturating power law is dashed beyond the "
     "largest cell, on the shaded ground. Diamond: what the other cells say of the largest, with "
     "its 90 % interval, beside what was measured."),
    ("optimum", "Best size and best hours over compute",
     "By the law of size and data, and by the parabolas, which assume no law."),
    ("data", "Loss over unique hours of sleep",
     "Equal compute: less sleep is seen more often. 3x beside a point: three passes."),
)
CONSTANTS = (
    ("E", "floor"), ("A", "of size"), ("a", "exponent of size"), ("B", "of data"),
    ("b", "exponent of data"), ("R", "passes until repeats are worth little"),
    ("N_exponent", "best N grows as C to this"), ("D_exponent", "best D grows as C to this"),
    ("loss_exponent", "loss above the floor falls as C to minus this"),
)


def report(study: str | Place, out: str | Place, budgets: Sequence[float] = ()) -> list[Place]:
    """Writes report.html and a PNG for each picture into folder `out`; returns their paths.

    study: folder with results.jsonl and, unless nothing was fitted yet, fit.json. budgets: of
    fit.json's recommendations those shown; none: all. Raises UserError where there are no results,
    or fit.json was made of others.
    """
    study, out = place(study), place(out)
    rows, excluded = read_results(study)
    fit = read_fit(study)
    pictures = draw(rows, fit)
    written = []
    for name, png in pictures.items():
        path = out / f"{name}.png"
        write_atomically(path, png)
        written.append(path)
    page = out / PAGE
    write_atomically(page, _page(rows, excluded, fit, pictures, budgets).encode())
    return [page, *written]


def draw(rows: list[dict], fit: dict) -> dict[str, bytes]:
    """The pictures, PNG by name. `data` is not there where every cell had the same sleep, nor
    `optimum` before there is a fit."""
    from sleeplm_jax.reports import scaling_figures

    varied = len({row["unique_hours"] for row in rows}) > 1
    there = {"data": varied, "optimum": bool(fit)}
    return {name: getattr(scaling_figures, name)(rows, fit) for name, *_ in PICTURES
            if there.get(name, True)}


def read_results(study: Place) -> tuple[list[dict], list[dict]]:
    """Rows of finished cells, by budget, size, data and seed, their losses numbers; and what was
    left out, as `fit` leaves it out. Raises UserError."""
    found = collect([str(study)])
    rows = []
    for run, row in zip(found.runs, found.rows, strict=True):
        losses = {name: loss for name, loss in run.losses.items() if math.isfinite(loss)}
        budget = row.get("budget")
        rows.append(row | {
            "N": run.N, "D_hours": run.D_hours, "unique_hours": run.unique_hours,
            "flops": run.flops, "seed": run.seed, "passes": run.passes, "losses": losses,
            "budget": budget if isinstance(budget, int | float) and budget > 0 else run.flops,
        })
    rows = [row for row in rows if row["losses"]]
    if not rows:
        raise UserError(study / RESULTS, "holds no loss that is a number", "run the study again")
    rows.sort(key=lambda r: (r["budget"], r["N"], -r["unique_hours"], r["seed"]))
    return rows, found.excluded


def read_fit(study: Place) -> dict:
    """fit.json; {} where there is none. Raises UserError where it is of other results."""
    path = study / FIT
    if not path.is_file():
        return {}
    try:
        fit = json.loads(path.read_text())
        made = {one["sha256"] for one in fit["made"]["files"]}
        fit["losses"], fit["warnings"], fit["excluded"]  # noqa: B018
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(path, f"cannot be read ({type(error).__name__})",
                        "run `sleeplm scaling fit` again") from error
    if file_sha256(study / RESULTS) not in made:
        raise UserError(path, "was fitted to other results than these",
                        "run `sleeplm scaling fit` again")
    return fit


def _page(rows: list[dict], excluded: list[dict], fit: dict, pictures: dict[str, bytes],
          budgets: Sequence[float]) -> str:
    from jinja2 import Environment, PackageLoader, select_autoescape

    environment = Environment(
        loader=PackageLoader("sleeplm_jax.reports", "templates"), autoescape=select_autoescape(),
        trim_blocks=True, lstrip_blocks=True,
    )
    names = names_of(rows)
    shown = [{"title": title, "note": note,
              "png": base64.b64encode(pictures[name]).decode()}
             for name, title, note in PICTURES if name in pictures]
    return environment.get_template("scaling.html").render(
        version=__version__, fitted=bool(fit), warnings=fit.get("warnings", []),
        simulated=any((row.get("figures") or {}).get("simulated") for row in rows),
        summary=_summary(rows), pictures=shown, laws=_laws(names, fit),
        recommended=_recommended(names, fit, budgets), names=[words(name) for name in names],
        units=[UNITS.get(name, "") for name in names], cells=_cells(rows, names),
        cost=_cost(rows), made=_made(rows, fit), excluded=excluded,
    )


def _summary(rows: list[dict]) -> list[tuple[str, str]]:
    def span(key, form=count):
        low, high = min(r[key] for r in rows), max(r[key] for r in rows)
        return form(low) if low == high else f"{form(low)} - {form(high)}"

    return [
        (str(len(rows)), "trainings (a cell and a seed each)"),
        (span("N"), "N, non-embedding parameters"),
        (span("unique_hours"), "unique hours of sleep"),
        (span("passes", lambda x: f"{x:.2g}"), "passes over them"),
        (span("flops", lambda x: f"{x:.2g}"), "training FLOPs of a cell"),
        (f"{sum(r['flops'] for r in rows):.2g}", "FLOPs in all"),
    ]


def told(value: dict | None, form: str = ".3g") -> str:
    """A value of fit.json with its 90 % interval, or that it is not identified, and why."""
    if value is None:
        return "not fitted"
    if value["value"] is None or not value["identified"]:
        return "not identified" + (f" ({value['why']})" if value.get("why") else "")
    low, high = (f"{end:{form}}" if end is not None else "?" for end in
                 (value["low"], value["high"]))
    return f"{value['value']:{form}} [{low}, {high}]"


def _laws(names: list[str], fit: dict) -> list[dict]:
    """What was fitted to each loss, as lines of words."""
    laws = []
    for name in names:
        found = fit.get("losses", {}).get(name)
        if found is None:
            continue
        law = {"title": words(name), "rows": [], "lines": []}
        laws.append(law)
        if "why" in found:
            law["lines"].append(f"Not fitted: {found['why']}.")
            continue
        law["form"] = found["parametric"]["form"]
        law["rows"] = [(key, about, told(found["parametric"].get(key))) for key, about in CONSTANTS
                       if found["parametric"].get(key) is not None]
        law["lines"] = [_isoflop(found["isoflop"]), _compute(found["compute"]),
                        _held_out(found["held_out"]), _check(found["check"]),
                        _noise(found.get("seed_noise"), found["parametric"])]
        if words_of := misfit(found):
            law["lines"].append(words_of[0].upper() + words_of[1:] + ".")
    return laws


def _isoflop(found: dict) -> str:
    if found.get("why"):
        return f"Parabolas: {found['why']}."
    return (f"Parabolas at {isoflop_curves(found)}: exponent of the best N over compute "
            f"{told(found['N_exponent'])}, of the best D {told(found['D_exponent'])}.")


def _compute(found: dict) -> str:
    if found.get("why"):
        return f"Power of compute: {found['why']}."
    return f"Power of compute, {found['form']}: c {told(found['c'])}, E {told(found['E'])}."


def _held_out(found: dict) -> str:
    if found.get("why"):
        return f"Largest cell held out: {found['why']}."
    said, within = found["predicted"], "within" if found["within_band"] else "outside"
    low, high = (f"{v:.4g}" if v is not None else "?" for v in (said["low"], said["high"]))
    others = len(found.get("cells", [])) - 1
    worst = "" if others < 1 else (
        f" Held out with it were {others} more cells of that compute; the worst of all is "
        f"{found['worst_relative_error']:.1%} off."
    )
    return (
        f"Largest cell held out ({found['cell']}, {found['factor']:.2g} times the next compute): "
        f"measured {found['observed']:.4g}, predicted {said['value']:.4g} [{low}, {high}], "
        f"{found['relative_error']:+.1%} off, {within} its interval; the best of the rest said "
        f"unchanged is {found['baseline_relative_error']:+.1%} off.{worst}"
    )


def _check(found: dict) -> str:
    agree = "agrees" if found["agree"] else "DOES NOT AGREE"
    why = f" ({found['why']})" if found.get("why") else ""
    return f"A second implementation ({found['method']}) {agree}{why}."


def _noise(noise: dict | None, law: dict) -> str:
    left = f"the law leaves {law['residual_log_sd']:.2%}"
    if noise is None:
        return f"No cell has several seeds, so noise is not known; {left}."
    return (f"Between seeds of a cell a loss varies by {noise['log_sd']:.2%} (standard deviation, "
            f"{noise['cells']} cells); {left}.")


def _recommended(names: list[str], fit: dict, budgets: Sequence[float]) -> list[dict]:
    shown = []
    for name in names:
        doubt = fit.get("losses", {}).get(name, {}).get("doubt")
        for one in fit.get("losses", {}).get(name, {}).get("recommended", []):
            if budgets and not any(math.isclose(one["flops"], b, rel_tol=1e-6) for b in budgets):
                continue
            nearest = (one.get("nearest_size") or {}) if one["N"]["identified"] else {}
            shown.append({
                "loss": words(name), "flops": f"{one['flops']:.3g}",
                "ahead": f"{one['extrapolation']:.2g} x", "n": told(one["N"]),
                "nearest": nearest.get("size", ""), "hours": told(one["D_hours"]),
                "unique": "no end" if one["unique_hours"] is None else f"{one['unique_hours']:g}",
                "passes": told(one["passes"]) if one["passes"] else "1",
                "expected": told(one["loss"]),
                "note": "; ".join(filter(None, [
                    f"a direction, no forecast: {doubt}" if doubt else "", one.get("note"),
                ])),
            })
    return shown


def _cells(rows: list[dict], names: list[str]) -> list[dict]:
    return [{
        "name": row["cell"], "n": count(row["N"]), "all": count(row.get("N_all", row["N"])),
        "flops": f"{row['flops']:.3g}", "unique": f"{row['unique_hours']:.4g}",
        "seen": f"{row['D_hours']:.4g}", "passes": f"{row['passes']:.2g}",
        "steps": f"{row['steps']:,} x {row['batch_size']}" if "steps" in row else "",
        "losses": [f"{row['losses'][n]:.4f}" if n in row["losses"] else "" for n in names],
        "cpu": _cpu(row),
    } for row in rows]


def _cpu(row: dict) -> str:
    cost = row.get("cost") or {}
    spent = [cost[name] for name in ("cpu_s", "measure_cpu_s") if cost.get(name) is not None]
    return f"{sum(spent):.0f}" if "cpu_s" in cost else ""


def _cost(rows: list[dict]) -> list[str]:
    """What the study cost, as far as its rows know."""
    costs = [row.get("cost") or {} for row in rows]
    here = [c for c in costs if c.get("cpu_s") is not None]
    flops = sum(row["flops"] for row in rows)
    lines = [f"{flops:.3g} FLOPs of training (matrix products, analytic, attention's included), "
             f"{sum(row['D_hours'] for row in rows):,.0f} hours of sleep seen."]
    if here:
        cpu = sum(c["cpu_s"] for c in here)
        measured = sum(c.get("measure_cpu_s") or 0.0 for c in here)
        trained = sum(r["flops"] for r, c in zip(rows, costs, strict=True) if c in here)
        loads = [c["load_at_start"] for c in here if c.get("load_at_start") is not None]
        lines.append(
            f"{lasting(cpu)} of CPU time training and {lasting(measured)} measuring, "
            f"{lasting(sum(c['seconds'] for c in here))} by the clock, of {len(here)} trainings; "
            f"{trained / cpu:.3g} FLOPs a CPU-second, start and compilation included"
            + (f"; load of the machine at their starts {min(loads):g} to {max(loads):g}"
               if loads else "") + "."
        )
    if len(here) < len(rows):
        lines.append(f"{len(rows) - len(here)} trainings ran elsewhere: their time is not known.")
    again = sum((c.get("attempts") or 1) > 1 for c in costs)
    if again:
        lines.append(f"{again} trainings were interrupted and went on.")
    return lines


def _made(rows: list[dict], fit: dict) -> list[tuple[str, str]]:
    def every(key):
        return sorted({str(row[key]) for row in rows if row.get(key)})

    versions = sorted({" ".join(f"{k} {v}" for k, v in sorted((row.get("versions") or {}).items()))
                       for row in rows if row.get("versions")})
    devices = sorted({", ".join(map(str, row["devices"])) for row in rows if row.get("devices")})
    told = [("corpus", [c[:16] for c in every("corpus")]), ("held-out set", every("held_out")),
            ("code", [c[:12] + ("+changes" if c.endswith("+changes") else "")
                      for c in every("code")]),
            ("versions", versions), ("devices", devices)]
    if fit:
        made = fit["made"]
        told.append(("fit", [f"{made['bootstraps']:,} bootstraps, seed {made['seed']}, numpy "
                             f"{made['numpy']}, scipy {made['scipy']}"]))
    return [(name, "; ".join(values)) for name, values in told if values]
