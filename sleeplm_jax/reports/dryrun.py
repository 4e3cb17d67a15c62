"""The dry run's tables on a terminal, and its weak-scaling picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sleeplm_jax.reports.palette import INK, MUTED, RULE
from sleeplm_jax.scaling.dryrun.memory import compiled_total

if TYPE_CHECKING:
    from rich.table import Table

    from sleeplm_jax.scaling.dryrun.plan import DryRun

PARTS = (
    ("parameters", "parameters"), ("optimizer", "optimizer"), ("ema", "running mean"),
    ("gradients", "gradients"), ("activations", "activations"), ("batch", "batches"),
    ("temporary", "temporary"),
)


def _table(title: str, *columns: str) -> Table:
    from rich.table import Table

    shown = Table(title=title, title_style="bold", title_justify="left", pad_edge=False)
    for number, name in enumerate(columns):
        shown.add_column(name, justify="left" if number == 0 else "right")
    return shown


def size(count: float) -> str:
    """Bytes in GB, MB or kB (powers of 1,000)."""
    for unit, one in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= one:
            return f"{count / one:,.2f} {unit}"
    return f"{count:.0f} B"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.3f} s" if seconds >= 1 else f"{seconds * 1e3:.2f} ms"


def arrays(found: DryRun) -> Table:
    """Every parameter: its shape, the axes that split it, what one device holds."""
    from rich.table import Table

    shown = Table(title="parameters", title_style="bold", title_justify="left", pad_edge=False)
    for name in ("path", "shape", "split over", "on one device"):
        shown.add_column(name, overflow="fold")
    for one in found.arrays:
        axes = [".".join(a) if isinstance(a, list) else (a or "-") for a in one["spec"]]
        axes += ["-"] * (len(one["shape"]) - len(axes))
        shown.add_row(one["path"], _dims(one["shape"]), " ".join(axes), _dims(one["local"]))
    return shown


def _dims(shape: list[int]) -> str:
    return " x ".join(f"{n:,}" for n in shape) or "scalar"


def memory(found: DryRun) -> Table:
    """Bytes of one device by part, and what the compiler says beside them."""
    shown = _table("memory of one device, estimate", "part", "bytes")
    for name, words in PARTS:
        if value := getattr(found.memory, name):
            shown.add_row(words, size(value))
    shown.add_section()
    shown.add_row("together", size(found.memory.total))
    if "temp" in found.compiled:
        for_cpu = found.compiled["platform"] == "cpu"
        halves = for_cpu and found.config.model.compute_dtype == "bfloat16"
        shown.add_row(
            "compiled for the TPU" if not for_cpu else "compiled for CPU devices"
            + (", bfloat16 as float32" if halves else ""), size(compiled_total(found.compiled)),
        )
    if found.topology.usable:
        shown.add_row("a device has to give", size(found.topology.usable))
    return shown


def collectives(found: DryRun) -> Table:
    """Collectives of a step by kind and mesh axes."""
    shown = _table("collectives of a step, one device", "kind", "along", "devices", "of a host",
                   "count", "bytes", "time")
    for one, seconds in zip(found.traffic, found.times):
        kind = f"{one.kind} (ring loss)" if one.ring else one.kind
        shown.add_row(kind, one.named, str(one.members[0]), str(one.members[1]),
                      f"{one.count:,}", size(one.bytes), duration(seconds))
    return shown


def lines(found: DryRun) -> list[str]:
    """What stands around the tables, a line each."""
    config, count = found.config, found.topology.count
    held = sum(_product(a["local"]) for a in found.arrays)
    total = sum(_product(a["shape"]) for a in found.arrays)
    told = [
        f"{config.name} on {found.topology.name}: {count} devices, mesh "
        + " ".join(f"{axis} {n}" for axis, n in found.mesh.items())
        + f", batch {config.data.batch_size:,} ({config.data.batch_size / count:g} a device), "
        f"{config.model.compute_dtype}, remat {config.model.remat}, micro-batches "
        f"{config.micro_batches}",
        f"parameters  {total:,}, {held:,} of them on each device",
        f"compute     {found.model_flops / 1e12:,.2f} TFLOP a step, "
        f"{found.device_flops / 1e12:,.2f} with what is computed again; the trace has "
        f"{found.traced_flops / 1e12:,.2f}",
    ]
    if "seconds" in found.compiled:
        told.append(f"compiled    in {found.compiled['seconds']:.0f} s for "
                    f"{found.compiled['platform'].upper()} devices, nothing was run")
    one = found.prediction
    if one is None:
        told.append("step time   not predicted: no peaks are stated for these devices"
                    if found.topology.device is None else "step time   not predicted")
    else:
        kind = "predicted (calibrated)" if found.calibration else "predicted (roofline)"
        told += [
            f"step time   {duration(one.step_s)} {kind}: products {duration(one.products_s)}, "
            f"passes between them {duration(one.passes_s)}, update {duration(one.update_s)}, "
            f"collectives {duration(one.collectives_s)}",
            f"            {duration(one.hidden_s)} with all collectives hidden",
            f"MFU         {one.mfu(one.step_s):.1%}, {one.mfu(one.hidden_s):.1%} with them hidden, "
            f"of {one.peak / 1e12:,.0f} TFLOP/s",
            f"speed       {config.data.batch_size / one.step_s:,.0f} samples/s",
        ]
    return told + [f"note: {note}" for note in found.notes]


def _product(shape: list[int]) -> int:
    total = 1
    for n in shape:
        total *= n
    return total


def weak(found: DryRun) -> Table:
    """Weak scaling: the same batch a device on 1 to 1,024 devices."""
    shown = _table(f"weak scaling, {found.config.data.batch_size / found.topology.count:g} samples "
                   "a device (predicted)", "devices", "batch", "step", "samples/s", "MFU",
                   "MFU, hidden", "efficiency")
    first = next((p.prediction.step_s for p in found.weak if p.prediction), None)
    for point in found.weak:
        one = point.prediction
        if one is None:
            shown.add_row(f"{point.devices:,}", f"{point.batch:,}", point.why, "", "", "", "")
            continue
        shown.add_row(
            f"{point.devices:,}", f"{point.batch:,}", duration(one.step_s),
            f"{point.batch / one.step_s:,.0f}", f"{one.mfu(one.step_s):.1%}",
            f"{one.mfu(one.hidden_s):.1%}", f"{first / one.step_s:.1%}",
        )
    return shown


def plot(found: DryRun) -> bytes:
    """PNG: speed and MFU over the number of devices, from nothing overlapped to all hidden."""
    from matplotlib.ticker import FuncFormatter, PercentFormatter

    from sleeplm_jax.reports.figure import STYLE, png_bytes, pyplot

    points = [p for p in found.weak if p.prediction]
    counts = [p.devices for p in points]
    plt = pyplot()
    with plt.rc_context(STYLE):
        fig, (left, right) = plt.subplots(1, 2, figsize=(9.4, 3.6), dpi=150, layout="constrained")
        speeds = [p.batch / p.prediction.step_s for p in points]
        hidden = [p.batch / p.prediction.hidden_s for p in points]
        left.plot(counts, [speeds[0] / counts[0] * n for n in counts], color=MUTED, lw=1, ls=":",
                  label="in proportion")
        left.fill_between(counts, speeds, hidden, color="#8FB3CC", alpha=0.4, lw=0,
                          label="collectives hidden in part")
        left.plot(counts, speeds, color="#17406D", lw=1.6, marker="o", ms=3,
                  label="nothing overlapped")
        left.set_yscale("log")
        left.set_ylabel("samples a second, predicted")
        right.fill_between(
            counts, [p.prediction.mfu(p.prediction.step_s) for p in points],
            [p.prediction.mfu(p.prediction.hidden_s) for p in points], color="#8FB3CC", alpha=0.4,
            lw=0,
        )
        right.plot(counts, [p.prediction.mfu(p.prediction.step_s) for p in points],
                   color="#17406D", lw=1.6, marker="o", ms=3)
        most = max(p.prediction.mfu(p.prediction.hidden_s) for p in points)
        right.set_ylim(0, min(1.0, 1.2 * most))
        right.set_ylabel("MFU, predicted")
        right.yaxis.set_major_formatter(PercentFormatter(1.0))
        left.legend(frameon=False, fontsize=7.5)
        for ax in (left, right):
            ax.set_xscale("log", base=2)
            ax.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:g}"))
            ax.set_xlabel(f"{found.topology.device.name} devices", color=MUTED)
            ax.grid(color=RULE, lw=0.5)
        fig.suptitle(f"{found.config.name}, {found.config.data.batch_size / found.topology.count:g}"
                     " samples a device: a roofline, not measured", color=INK, fontsize=9.5, x=0.01,
                     ha="left")
        return png_bytes(fig, plt)
