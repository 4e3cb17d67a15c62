"""fit.json as text for a terminal."""

from __future__ import annotations


def rendered(fit: dict) -> str:
    """What `fit_study` found, in lines; no line says more than the fit does."""
    low, high = fit["range"]["flops"]
    lines = [
        f"{fit['runs']} runs in {fit['cells']} cells, {len(fit['sizes'])} sizes, "
        f"{low:.3g} to {high:.3g} FLOPs; {fit['made']['bootstraps']} resamples of runs, "
        f"intervals of {fit['made']['interval']:.0%}, {fit['made']['seconds']:.1f} s"
    ]
    lines += [f"  left out: {_row(row)}" for row in fit["excluded"]]
    lines += [f"  note: {text}" for text in fit["warnings"]]
    for name, one in fit["losses"].items():
        lines += ["", name]
        lines += [f"  left out: {_row(row)}" for row in one["excluded"]]
        if "why" in one:
            lines.append(f"  not fitted: {one['why']}")
        else:
            lines += [f"  {line}" for line in _loss(one)]
    return "\n".join(lines)


def said(value: dict | None, digits: int = 3) -> str:
    """One value with its interval: `0.35 [0.33, 0.38]`, and why it says nothing where so."""
    if value is None:
        return "-"
    if value["value"] is None:
        return f"not identified ({value['why']})"
    text = f"{value['value']:.{digits}g}"
    if value["low"] is not None:
        text += f" [{value['low']:.{digits}g}, {value['high']:.{digits}g}]"
    return text if value["identified"] else f"{text}  not identified ({value['why']})"


def misfit(one: dict) -> str:
    """Words about a law that misses by more than seeds explain; none where it does not."""
    found = one.get("misfit")
    if not found or not found["doubted"]:
        return ""
    return (f"cells miss the law by more than seeds explain (F {found['ratio']:.3g}, p "
            f"{found['p']:.2g}): its form does not fit these runs")


def isoflop_curves(found: dict) -> str:
    """`4 budgets of 160 unique hours`: what the parabolas' exponents are of."""
    pool = found["unique_hours"]
    used = sum(part["used"] and part["unique_hours"] == pool for part in found["budgets"])
    return f"{used} budgets" + (" of new data" if pool is None else f" of {pool:g} unique hours")


def _row(row: dict) -> str:
    return f"{row['where']}{' (' + row['cell'] + ')' if row['cell'] else ''}: {row['why']}"


def _loss(one: dict) -> list[str]:
    law, check = one["parametric"], one["check"]
    lines = [law["form"]]
    lines += [
        f"  {name:<4} {said(law[name])}" for name in ("E", "A", "a", "B", "b", "R") if law[name]
    ]
    lines.append(f"  best N ~ C^ {said(law['N_exponent'])}")
    lines.append(f"  best D ~ C^ {said(law['D_exponent'])}")
    lines.append(f"  L - E  ~ C^-{said(law['loss_exponent'])}")
    noise = one["seed_noise"]
    seeds = (f"seeds alone {noise['log_sd']:.2%} ({noise['cells']} cells)" if noise
             else "no cell has two seeds")
    lines.append(f"scatter about the law {law['residual_log_sd']:.2%}; {seeds}")
    if words := misfit(one):
        lines.append(f"  {words}")
    second = f"second fit ({check['method']}): a {check['a']:.4f}, b {check['b']:.4f}; "
    lines.append(second + ("agrees" if check["agree"] else f"DOES NOT AGREE: {check['why']}"))
    lines += _others(one)
    if one["doubt"]:
        lines.append(f"WARNING: a direction, no forecast ({one['doubt']}):")
    for asked in one["recommended"]:
        lines.append(f"for {asked['flops']:.3g} FLOPs ({asked['extrapolation']:.3g} x the "
                     "largest run):")
        nearest = asked["nearest_size"]
        known = nearest and asked["N"]["identified"]
        near = f"   nearest size {nearest['size']} ({nearest['N']:.3g})" if known else ""
        lines.append(f"  N     {said(asked['N'])}{near}")
        lines.append(f"  hours {said(asked['D_hours'])}")
        if asked["passes"]:
            lines.append(f"  passes over {asked['unique_hours']:g} h {said(asked['passes'])}")
        lines.append(f"  loss  {said(asked['loss'], 4)}")
        if asked["note"]:
            lines.append(f"  note: {asked['note']}")
    return lines


def _others(one: dict) -> list[str]:
    """What isoFLOP parabolas, the power of compute and the held-out cell say."""
    lines = []
    flops, power, held = one["isoflop"], one["compute"], one["held_out"]
    if flops["why"]:
        lines.append(f"isoFLOP parabolas: not fitted: {flops['why']}")
    else:
        lines.append(f"isoFLOP parabolas at {isoflop_curves(flops)}: best N ~ C^ "
                     f"{said(flops['N_exponent'])}, best D ~ C^ {said(flops['D_exponent'])}")
    if "why" in power:
        lines.append(f"power of compute: not fitted: {power['why']}")
    else:
        lines.append(f"power of compute over {len(power['frontier'])} cells: c {said(power['c'])}, "
                     f"E {said(power['E'])}")
    if "why" in held:
        lines.append(f"largest compute held out: not done: {held['why']}")
    else:
        lines.append(
            f"largest compute held out ({len(held['cells'])} cells; the best, {held['cell']}, is "
            f"{held['factor']:.3g} x all others): measured "
            f"{held['observed']:.4g}, predicted {said(held['predicted'], 4)}: "
            f"{held['relative_error']:+.2%} off, {'inside' if held['within_band'] else 'OUTSIDE'} "
            f"its interval (the best of the rest, said unchanged, is "
            f"{held['baseline_relative_error']:+.2%} off; worst of the held out "
            f"{held['worst_relative_error']:.2%})"
        )
    return lines
