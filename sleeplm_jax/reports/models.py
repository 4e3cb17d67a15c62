"""A model's parts and cost, and the list of presets, as tables on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sleeplm_jax.config import RunConfig

if TYPE_CHECKING:
    from rich.table import Table

    from sleeplm_jax.models.summary import Module


def parts(config: RunConfig, modules: list[Module], arrays: bool = False) -> Table:
    """One row a module: parameters and FLOPs of one sample's forward pass. With `arrays`, every
    array and its shape below it (stacked layers have a leading axis)."""
    from rich.table import Table

    shown = Table(title=config.name, title_style="bold", pad_edge=False)
    shown.add_column("module")
    shown.add_column("shape" if arrays else "of what")
    shown.add_column("parameters", justify="right")
    shown.add_column("GFLOP", justify="right")
    for module in modules:
        gflop = f"{module.work.total / 1e9:.3f}" if module.work else ""
        shown.add_row(module.path, "" if arrays else _of_what(module), f"{module.parameters:,}",
                      gflop)
        if arrays:
            for name, shape in module.arrays.items():
                dims = " x ".join(f"{n:,}" for n in shape) or "scalar"
                shown.add_row(f"  {name.removeprefix(module.path + '/')}", dims, "", "")
    return shown


def _of_what(module: Module) -> str:
    """`12 layers of 16 arrays`, or the names of what stands alone."""
    stacked = {s[0] for name, s in module.arrays.items() if "/stack/blocks/" in name}
    if module.path.endswith("/stack"):
        return f"{stacked.pop()} layers, {len(module.arrays)} arrays each"
    names = [name.removeprefix(module.path + "/") for name in module.arrays]
    if len(names) <= 3:
        return ", ".join(
            f"{name} {' x '.join(f'{n:,}' for n in module.arrays[full])}".strip()
            for name, full in zip(names, module.arrays)
        )
    return f"{len(names)} arrays"


def facts(config: RunConfig, modules: list[Module], activations: int) -> list[str]:
    """What stands above and below the table, a line each."""
    model, objective, encoder = config.model, config.objective, config.model.encoder
    spec = model.spec
    tokens = len(spec.channels) // encoder.patch_channels * (spec.samples // encoder.patch_samples)
    total = sum(module.parameters for module in modules)
    work = sum(module.work.total for module in modules if module.work)
    head = sum(m.parameters for m in modules if m.path.split("/")[0] == "reconstruction")
    weights = ", ".join(
        f"{name} {getattr(objective, name):g}"
        for name in ("contrastive", "caption", "reconstruction")
    )
    if objective.contrastive > 0:
        weights += f" ({objective.contrastive_form})"
    words = f"{config.data.text_length} tokens of {model.vocab_size:,}, width {model.text.width}"
    words += f", depth {model.text.depth}"
    if objective.caption > 0:
        words += f", decoder {model.text.decoder_depth}"
    elif objective.contrastive > 0:
        words += ", no decoder"
    else:
        words = "none"
    lines = [
        f"input       {len(spec.channels)} channels x {spec.samples:,} samples "
        f"({spec.rate} Hz, {spec.seconds:,} s)",
        f"encoder     {encoder.kind}: {tokens:,} tokens of {encoder.width} from patches of "
        f"{encoder.patch_channels} x {encoder.patch_samples}, depth {encoder.depth}, "
        f"{encoder.heads} heads",
        f"text        {words}",
        f"objective   {weights}",
        f"parameters  {total:,}, {4 * total / 2**30:.2f} GiB in float32 (training: {3 * 4} bytes "
        "each for values and two moments, gradients besides)",
    ]
    if head:
        lines.append(f"            {total - head:,} without the reconstruction head")
    return lines + [
        f"compute     {work / 1e9:.2f} GFLOP a sample forward, {3 * work / 1e9:.1f} in training",
        f"activations {activations / 2**20:.1f} MiB a sample kept for the backward pass "
        f"({model.compute_dtype}, remat {model.remat})",
    ]


def listed(rows: list[tuple[str, RunConfig, int, float]]) -> Table:
    """Presets: `(name, config, parameters, GFLOP forward)`."""
    from rich.table import Table

    shown = Table(pad_edge=False)
    for heading, side in (("preset", "left"), ("encoder", "left"), ("text + decoder", "left"),
                          ("parameters", "right"), ("GFLOP", "right")):
        shown.add_column(heading, justify=side)
    for name, config, parameters, gflop in rows:
        encoder, text = config.model.encoder, config.model.text
        depth = f"{text.depth}"
        if config.objective.caption > 0:
            depth += f" + {text.decoder_depth}"
        shown.add_row(
            name, f"{encoder.kind} {encoder.depth} x {encoder.width}", f"{depth} x {text.width}",
            f"{parameters:,}", f"{gflop:.2f}",
        )
    return shown
