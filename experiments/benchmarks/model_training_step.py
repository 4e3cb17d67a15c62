"""A training step of ours beside the PyTorch twin's, eager and compiled, in one run.

    python experiments/benchmarks/model_training_step.py                      # sleeplm-10m, CPU
    python experiments/benchmarks/model_training_step.py --preset sleeplm-base --batch 2
    python experiments/benchmarks/model_training_step.py --preset sleeplm-base --device gpu \
        --dtype bfloat16 --batch 32 --steps 10

All sides start from the same weights, see the same random batch (only shapes matter to speed) and
do the same: the preset's three losses, gradients clipped to a norm of 1, AdamW in float32. The
table ends with each side's first losses, which must agree. PyTorch runs autocast for bfloat16, its
fused AdamW, and all cores; ours is the step that `sleeplm train` runs. Sides are timed in turn.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from sleeplm_jax.parallel.peaks import peak_flops

sys.path.insert(0, str(Path(__file__).parent))
import model_sides as sides  # noqa: E402

NAMES = {"ours": "ours (jit)", "eager": "PyTorch eager", "compiled": "PyTorch compiled"}
LOSSES = 3  # steps before any is timed: they warm up, and their losses are compared
RATE = 1e-4


def configured(options):
    """The preset with one learning rate for all steps, so that the other side can follow it."""
    config = sides.configure(options.preset, options.dtype, options.small)
    return dataclasses.replace(
        config, data=dataclasses.replace(config.data, batch_size=options.batch),
        optimizer=dataclasses.replace(
            config.optimizer, schedule="wsd", warmup_steps=0, learning_rate=RATE
        ),
    )


def batch_of(config) -> dict[str, np.ndarray]:
    """A batch as the loader's, of noise: every channel present, no two captions equal."""
    rng, size = np.random.default_rng(0), config.data.batch_size
    length, vocab = config.data.text_length, config.model.vocab_size
    text = rng.integers(1, vocab - 2, (size, length)).astype(np.int32)
    text[:, 0] = vocab - 2
    ends = rng.integers(length // 3, length, size)
    text[np.arange(length) > ends[:, None]] = 0
    text[np.arange(size), ends] = vocab - 1
    shape = config.model.spec.shape
    return {
        "signal": rng.normal(size=(size, *shape)).astype(np.float32),
        "channel_mask": np.ones((size, shape[0]), bool),
        "text": text,
        "prefix": np.tile(np.array([4, -1], np.int32), (size, 1)),
        "kinds": np.ones((size, 5), bool),
        "keys": np.arange(size * 5, dtype=np.int32).reshape(size, 5),
        "valid": np.ones(size, bool),
    }


def ours(options) -> sides.Side:
    import jax

    from sleeplm_jax.models.attention import described
    from sleeplm_jax.models.flops import Work, forward
    from sleeplm_jax.parallel.batches import BatchPlacer
    from sleeplm_jax.parallel.mesh import make_mesh
    from sleeplm_jax.training.step import Steps

    config = configured(options)
    mesh = make_mesh(config.mesh)
    with jax.set_mesh(mesh):
        steps = Steps(config, mesh)
        batch = BatchPlacer(mesh, options.batch).place(batch_of(config))
        state = steps.init()
        sides.store_weights(state["parameters"], options.weights)
        losses = []
        for _ in range(LOSSES):
            state, metrics = steps.train(state, batch)
            losses.append(float(metrics["loss"]))

    def run(case: str) -> dict:
        nonlocal state
        with jax.set_mesh(mesh):
            for _ in range(options.steps):
                state, metrics = steps.train(state, batch)
            jax.block_until_ready(state)
        return {}

    work = sum(forward(config).values(), Work()).total
    device = jax.devices()[0]
    about = {
        "losses": losses, "flops_sample": work, "device": device.device_kind,
        "parameters": sum(x.size for x in jax.tree.leaves(state["parameters"])),
        "attention": described(config.model.attention), "version": f"jax {jax.__version__}",
    }
    peak = None
    if options.device == "gpu":
        peak = lambda: device.memory_stats()["peak_bytes_in_use"]  # noqa: E731
    return sides.Side(run, about, peak)


def loss_of(torch, model, config, batch):
    """The twin's total loss, as objectives.total has it for a batch without missing channels."""
    F = torch.nn.functional
    out = model(batch["signal"], batch["channel_mask"], batch["text"], batch["prefix"])
    objective, loss = config.objective, 0.0
    if objective.contrastive > 0:
        cosines = out["signal_embedding"].float() @ out["text_embedding"].float().T
        logits = out["logit_scale"].exp() * cosines
        if objective.contrastive_form == "softmax":
            each = torch.arange(len(logits), device=logits.device)
            both = 0.5 * (F.cross_entropy(logits, each) + F.cross_entropy(logits.T, each))
        else:
            logits = logits + out["logit_bias"]
            same = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
            both = -F.logsigmoid(torch.where(same, logits, -logits)).sum() / len(logits)
        loss = loss + objective.contrastive * both
    if objective.caption > 0:
        said = F.cross_entropy(
            out["logits"].flatten(0, 1), batch["text"][:, 1:].flatten(), ignore_index=0
        )
        loss = loss + objective.caption * said
    if objective.reconstruction > 0:
        rows = batch["amplitudes"]
        off = (out["reconstruction"][:, rows] - batch["signal"][:, rows]).square().mean()
        loss = loss + objective.reconstruction * off
    return loss


def pytorch(options, compiled: bool) -> sides.Side:
    torch, device, dtype = sides.torch_for(options.device, options.dtype)
    if compiled:
        sides.need_compiler(options.device)
    config = configured(options)
    weights = options.weights if Path(options.weights).exists() else None
    model = sides.twin_of(torch, config, device, weights).train()
    batch = {name: torch.from_numpy(x).to(device) for name, x in batch_of(config).items()}
    batch["text"], batch["prefix"] = batch["text"].long(), batch["prefix"].long()
    batch["amplitudes"] = torch.tensor(
        [i for i, name in enumerate(config.model.spec.channels) if name != "POS"], device=device
    )
    matrices = [
        p for name, p in model.named_parameters()
        if "filters" in name and not name.endswith("bias")
        or p.ndim == 2 and name.endswith(".weight")
    ]
    ids = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in ids]
    o = config.optimizer
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": o.weight_decay}, {"params": rest, "weight_decay": 0}],
        lr=RATE, betas=(o.beta1, o.beta2), fused=True,
    )

    def loss(batch):
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            return loss_of(torch, model, config, batch)

    if compiled:
        loss = torch.compile(loss)

    def step():
        optimizer.zero_grad(set_to_none=True)
        value = loss(batch)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), o.clip_norm)
        optimizer.step()
        return value.detach()

    def run(case: str) -> dict:
        for _ in range(options.steps):
            value = step()
        value.item()  # waits for the device
        return {}

    about = {"losses": [float(step()) for _ in range(LOSSES)],
             "version": f"torch {torch.__version__}"}
    peak = torch.cuda.max_memory_allocated if options.device == "gpu" else None
    return sides.Side(run, about, peak)


def report(options, found: dict) -> dict:
    """Prints the table; what --json writes."""
    first = found.get("ours", {}).get("about", {})
    work = 3 * first.get("flops_sample", 0) * options.batch
    peak = peak_flops(first.get("device", ""), options.dtype)
    samples = options.batch * options.steps
    if first:
        print(f"{first['parameters']:,} parameters, {work / 1e9:,.4g} GFLOP a step, "
              f"{first['attention']}; {first['version']}, "
              + next((f["about"]["version"] for n, f in found.items()
                      if n != "ours" and "about" in f), "no torch"))
    on_cpu = options.device == "cpu"
    print(f"{'':18}{'samples/s':>10}{'s a step':>10}" + f"{'CPU-s':>8}" * on_cpu
          + f"{'TFLOP/s':>9}{'MFU':>6}{'peak GB':>9}{'their time by ours':>20}")
    for name, one in found.items():
        if not one["runs"]:
            print(f"{NAMES[name]:18}not run: {one.get('absent')}")
            continue
        runs = one["runs"]["step"]
        s = sides.best(runs) / options.steps
        one["samples_s"], one["step_s"] = samples / options.steps / s, s
        one["tflops"] = work / s / 1e12
        line = f"{NAMES[name]:18}{one['samples_s']:10.2f}{s:10.3f}"
        if on_cpu:
            one["step_cpu_s"] = sides.best(runs, "cpu_s") / options.steps
            line += f"{one['step_cpu_s']:8.2f}"
        one["mfu"] = work / s / peak if peak and work else None
        line += f"{one['tflops']:9.3f}" + (f"{one['mfu']:6.0%}" if one["mfu"] else f"{'-':>6}")
        line += f"{one.get('peak_bytes', 0) / 1e9:9.2f}"
        if name != "ours" and found.get("ours", {}).get("runs"):
            one["ratio"] = sides.ratio(runs, found["ours"]["runs"]["step"])
            line += f"{one['ratio']:20.2f}"
        print(line + (f"  ({one['stopped']})" if "stopped" in one else ""))
    for name, one in found.items():
        if "about" in one:
            print(f"first losses, {NAMES[name]}: "
                  + ", ".join(f"{x:.5f}" for x in one["about"]["losses"])
                  + f"; ready after {one['about']['start_s']:.0f} s")
    return found


def main(arguments: list[str] | None = None) -> dict:
    parser = sides.parser(__doc__, NAMES)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=1, help="steps of one timing")
    parser.add_argument("--repeats", type=int, default=5, help="timings of every side")
    parser.add_argument("--sides", default="ours,eager,compiled")
    parser.add_argument("--quick", action="store_true", help="two timings, nothing compiled by "
                        "PyTorch")
    options = parser.parse_args(arguments)
    if options.side:
        sides.select_device(options.device)
        make = {"ours": ours, "eager": lambda o: pytorch(o, False),
                "compiled": lambda o: pytorch(o, True)}[options.side]
        sides.serve(lambda: make(options))
        return {}
    if options.quick:
        options.repeats, options.sides = 2, "ours,eager"
    chosen = options.sides.split(",")
    if unknown := set(chosen) - set(NAMES):
        raise SystemExit(f"--sides {','.join(sorted(unknown))}: choose from {','.join(NAMES)}")
    config = configured(options)
    from sleeplm_jax.models.summary import activation_bytes, parameters_of

    # Weights, gradients and both moments; activations, which torch keeps twice as many of.
    need = 0 if options.small else (
        16 * parameters_of(config) + 2 * options.batch * activation_bytes(config)
    )
    together = sides.fit(len(chosen), need, options.device)
    print(f"{sides.machine(options.device)}; {options.preset}, {options.dtype}, batch "
          f"{options.batch}; sides timed {'turn about' if together else 'one after the other'}",
          flush=True)
    with tempfile.TemporaryDirectory() as folder:
        given = ["--preset", options.preset, "--device", options.device, "--dtype", options.dtype,
                 "--batch", str(options.batch), "--steps", str(options.steps),
                 "--weights", str(Path(folder) / "weights.npz"), *["--small"] * options.small]
        found = sides.in_turn(__file__, chosen, given, lambda side: ["step"], options.repeats,
                              together, options.budget, options.rounds)
    result = {"machine": sides.machine(options.device), "preset": options.preset,
              "dtype": options.dtype, "batch": options.batch, "together": together,
              "sides": report(options, found)}
    print(f"at the end: {result['machine']}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return result


if __name__ == "__main__":
    main()
