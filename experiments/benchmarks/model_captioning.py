"""Captions of one epoch and of a night: ours beside the PyTorch twin and SleepLM's own code.

    python experiments/benchmarks/model_captioning.py                       # sleeplm-10m, CPU
    python experiments/benchmarks/model_captioning.py --preset sleeplm-base --epochs 8
    SLEEPLM_TORCH=SleepLM python experiments/benchmarks/model_captioning.py \
        --preset sleeplm-base --sides ours,official --tokens 32 --epochs 8
    python experiments/benchmarks/model_captioning.py --preset sleeplm-base --device gpu \
        --dtype bfloat16 --epochs 960

All sides hold the same random weights and write texts of the same number of tokens, greedily (ends
are forbidden); signals are noise, only shapes matter to speed. Three cases: one text of one epoch;
its five kinds; five kinds of `--epochs` epochs, from which a night of 960 is reckoned in
proportion. The twin keeps keys and values as ours does; it is given the encoded signals once for
all kinds, where its own API encodes them again for each. SLEEPLM_TORCH names a checkout of
github.com/yang-ai-lab/SleepLM (its `generate` needs transformers 4): it is timed for one text of
one epoch, as its demo calls it, and for five kinds of one epoch in one call, as its batch axis
allows; its night is that call times the epochs. It encodes the signal at each call and keeps
nothing between tokens, so its cost grows with the square of a text's length: `--tokens` decides
the ratio. The demo's five captions have 27, 157, 89, 69 and 53 tokens, 79 on average.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import model_sides as sides  # noqa: E402

NAMES = {"ours": "ours", "eager": "PyTorch eager", "compiled": "PyTorch compiled",
         "official": "SleepLM's code"}
NIGHT = 960  # epochs of 8 hours
KINDS = 5
CASES = {"text": "one epoch, one kind", "epoch": "one epoch, five kinds", "night": "night"}


class Marks:
    """As much of a tokenizer as generation asks for; ids as CLIP's stand."""

    pad_id, unwritten = 0, ()

    def __init__(self, vocab_size: int):
        self.vocab_size, self.bos_id, self.eos_id = vocab_size, vocab_size - 2, vocab_size - 1


def signals(config, epochs: int) -> tuple[np.ndarray, np.ndarray]:
    signal = np.random.default_rng(0).normal(size=(epochs, *config.model.spec.shape))
    return signal.astype(np.float32), np.ones(signal.shape[:2], bool)


def cases_of(side: str) -> list[str]:
    return ["text", "epoch"] if side == "official" else list(CASES)


def wanted(options, case: str) -> tuple[int, tuple[str, ...]]:
    """Epochs and kinds of a case."""
    from sleeplm_jax.config import CAPTION_KINDS

    return options.epochs if case == "night" else 1, (
        CAPTION_KINDS[-1:] if case == "text" else CAPTION_KINDS
    )


def told(texts) -> dict:
    """The first text of all, to be compared."""
    return {"tokens": np.asarray(texts).reshape(-1, np.shape(texts)[-1])[0].tolist()}


def ours(options) -> sides.Side:
    import jax

    from sleeplm_jax.inference.generation import Decoding
    from sleeplm_jax.inference.prompts import prompt
    from sleeplm_jax.inference.run import Model
    from sleeplm_jax.models.build import create

    config = sides.configure(options.preset, options.dtype, options.small)
    parameters = jax.jit(lambda: create(config)[1])()
    sides.store_weights(parameters, options.weights)
    marks = Marks(config.model.vocab_size)
    model = Model(config, parameters, marks, 0, {}, Path("."), batch_size=options.batch)
    # The last token may be an end, which changes nothing: SleepLM's code allows no stricter rule.
    decoding = Decoding(max_tokens=options.tokens, min_tokens=options.tokens - 1)

    def run(case: str) -> dict:
        epochs, kinds = wanted(options, case)
        signal, mask = signals(config, epochs)
        texts, _ = model.generate(signal, mask, np.stack([prompt(k) for k in kinds]), decoding)
        return told(texts[:, -1, 0])  # of the last kind, as the others write last

    for case in cases_of("ours"):
        run(case)
    device = jax.devices()[0]
    peak = None
    if options.device == "gpu":
        peak = lambda: device.memory_stats()["peak_bytes_in_use"]  # noqa: E731
    about = {"parameters": sum(x.size for x in jax.tree.leaves(parameters)),
             "version": f"jax {jax.__version__}"}
    return sides.Side(run, about, peak)


def pytorch(options, compiled: bool) -> sides.Side:
    torch, device, dtype = sides.torch_for(options.device, options.dtype)
    if compiled:
        sides.need_compiler(options.device)
    config = sides.configure(options.preset, options.dtype, options.small)
    weights = options.weights if Path(options.weights).exists() else None
    model = sides.twin_of(torch, config, device, weights).to(dtype).eval()
    if compiled:
        model.encoder.compile()
        # Their caches grow by a token a step: one graph for all lengths.
        model.text.stack.compile(dynamic=True)
        model.decoder.stack.compile(dynamic=True)
        torch._dynamo.config.recompile_limit = 64  # a graph a layer's cache, first and later steps
    encode = model.encode_signal

    def run(case: str) -> dict:
        epochs, kinds = wanted(options, case)
        (signal, mask), written = signals(config, epochs), []
        for first in range(0, epochs, options.batch):
            part = slice(first, first + options.batch)
            with torch.no_grad():
                seen = encode(signal[part], mask[part])
            model.encode_signal = lambda *_: seen  # noqa: B023  # once for all kinds
            for kind in kinds:
                texts = model.generate(
                    signal[part], mask[part], kind, options.tokens, options.tokens - 1
                ).cpu()
            written.append(texts)
        return told(written[0])

    for case in cases_of("twin"):
        run(case)
    peak = torch.cuda.max_memory_allocated if options.device == "gpu" else None
    return sides.Side(run, {"version": f"torch {torch.__version__}"}, peak)


def official(options) -> sides.Side:
    """SleepLM's code from a checkout, with our weights under its names."""
    folder = os.environ.get("SLEEPLM_TORCH", "")
    if not folder:
        raise sides.Absent("SLEEPLM_TORCH names no checkout of SleepLM")
    if options.preset != "sleeplm-base" or options.small:
        raise sides.Absent("has only the model sleeplm-base")
    torch, device, dtype = sides.torch_for(options.device, options.dtype)
    sys.path.insert(0, str(Path(folder) / "src"))
    try:
        from open_clip import biosignals_coca_model, create_model
    except ImportError as error:
        raise sides.Absent(f"cannot be imported ({error})") from None
    if not biosignals_coca_model._has_transformers:
        raise sides.Absent("its generate needs transformers 4 (with BeamSearchScorer)")
    half = dtype != torch.float32
    # As its demo loads it: float32 weights, bfloat16 by autocast.
    model = create_model(
        "sleep_coca_base_dualtransformer", precision="amp_bf16" if half else "fp32",
        device=str(device), num_caption_channels=KINDS, prefix_len=2,
    )
    config = sides.configure(options.preset, options.dtype, False)
    if Path(options.weights).exists():
        load_official(torch, model, config, options.weights)
    model.eval()
    vocab, signal = config.model.vocab_size, torch.from_numpy(signals(config, 1)[0]).to(device)

    def run(case: str) -> dict:
        # Kinds by its own numbers, the last the one that `told` compares.
        kinds = [4] if case == "text" else [4, 0, 1, 2, 3]
        channels = torch.tensor([[kind, -1] for kind in kinds], device=device)
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=half):
            texts = model.generate(
                signal.expand(len(kinds), -1, -1), seq_len=options.tokens, max_seq_len=256,
                generation_type="beam_search",
                num_beams=3, num_beam_groups=3, min_seq_len=options.tokens - 1,
                sot_token_id=vocab - 2, eos_token_id=vocab - 1, pad_token_id=0,
                channel_indices=channels,
            )
        return told(texts.cpu())

    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=half):
        model.encode_text(torch.full((1, 256), 5, device=device))  # warm, but for a long call
    peak = torch.cuda.max_memory_allocated if options.device == "gpu" else None
    return sides.Side(run, {"version": f"torch {torch.__version__}"}, peak)


def load_official(torch, model, config, weights: str) -> None:
    """Our weights, stored for the twin, under the official names. Raises Absent for others."""
    from sleeplm_jax.interop.sleeplm_names import to_sleeplm

    with np.load(weights) as stored:
        parameters = from_torch(stored, config)
    state = {k: torch.from_numpy(np.ascontiguousarray(x))
             for k, x in to_sleeplm(parameters, config).items()}
    missing, _ = model.load_state_dict(state, strict=False)
    if missing:
        raise sides.Absent(f"has parameters that we do not know ({missing[0]})")


def from_torch(stored, config) -> dict:
    """The inverse of interop.names.to_torch for a config's parameters."""
    import jax

    from sleeplm_jax.interop.names import to_torch
    from sleeplm_jax.models.build import create

    shapes = jax.eval_shape(lambda: create(config)[1])
    # Every leaf holds its own number, in each of its layers: to_torch then tells where it goes.
    leaves, tree = jax.tree.flatten(shapes)
    marked = [np.broadcast_to(np.arange(len(leaves))[i], x.shape) for i, x in enumerate(leaves)]
    filled: list[list] = [[] for _ in leaves]
    for name, mark in to_torch(jax.tree.unflatten(tree, marked)).items():
        number = int(mark.flat[0])
        x = stored[name]
        shape = leaves[number].shape
        turned = name.endswith(".weight") and x.ndim == 2
        filled[number].append((x.T if turned else x, shape))
    arrays = [
        np.stack([x for x, _ in parts]) if parts[0][0].ndim < len(parts[0][1]) else parts[0][0]
        for parts in filled
    ]
    return jax.tree.unflatten(tree, arrays)


def report(options, found: dict) -> None:
    mine = found.get("ours", {}).get("runs", {})
    if mine:
        about = found["ours"]["about"]
        print(f"{about['parameters']:,} parameters; texts of {options.tokens} tokens; "
              + ", ".join(sorted({f["about"]["version"] for f in found.values() if "about" in f})))
    print(f"{'':18}{'case':24}{'s':>9}{'CPU-s':>9}{'tokens/s':>10}{'night, h':>10}{'peak GB':>9}"
          f"{'their time by ours':>20}")
    for name, one in found.items():
        if not one["runs"]:
            print(f"{NAMES[name]:18}not run: {one.get('absent')}")
            continue
        for case, label in CASES.items():
            epochs, kinds = wanted(options, case)
            texts = epochs * len(kinds)
            runs, reckoned = one["runs"].get(case), ""
            if not runs and case in cases_of(name):
                continue
            if not runs and one["runs"].get("epoch"):
                runs = [{k: x[k] * epochs for k in ("s", "cpu_s")} for x in one["runs"]["epoch"]]
                reckoned = f"  reckoned: {epochs} times the call of five kinds"
            if not runs:
                continue
            s, cpu = sides.best(runs), sides.best(runs, "cpu_s")
            rate = texts * (options.tokens - 1) / s
            cell = {"s": s, "cpu_s": cpu, "tokens_s": rate, "reckoned": bool(reckoned)}
            if case == "night":
                label, cell["night_h"] = f"{epochs} epochs, five kinds", s / epochs * NIGHT / 3600
            night = f"{cell['night_h']:10.2f}" if "night_h" in cell else f"{'':10}"
            line = (f"{NAMES[name]:18}{label:24}{s:9.2f}{cpu:9.2f}{rate:10.1f}{night}"
                    f"{one.get('peak_bytes', 0) / 1e9:9.2f}")
            if name != "ours" and mine.get(case):
                cell["ratio"] = sides.ratio(runs, mine[case])
                line += f"{cell['ratio']:20.2f}"
            one.setdefault("cells", {})[case] = cell
            print(line + reckoned)
        if "stopped" in one:
            print(f"{NAMES[name]:18}stopped: {one['stopped']}")
    if mine:
        first = mine["text"][0]["tokens"]
        for name, one in found.items():
            if name != "ours" and one["runs"].get("text"):
                theirs = one["runs"]["text"][0]["tokens"]
                one["equal_tokens"] = sum(a == b for a, b in zip(first, theirs)) / len(first)
                print(f"{NAMES[name]}: {one['equal_tokens']:.0%} of its text's tokens are ours")


def main(arguments: list[str] | None = None) -> dict:
    parser = sides.parser(__doc__, NAMES)
    parser.add_argument("--tokens", type=int, default=48, help="of every text, start counted")
    parser.add_argument("--epochs", type=int, default=16, help="of the night that is run")
    parser.add_argument("--batch", type=int, default=64, help="epochs at a time")
    parser.add_argument("--repeats", type=int, default=2, help="timings of every side")
    parser.add_argument("--sides", default="ours,eager,compiled,official")
    parser.add_argument("--quick", action="store_true", help="one timing, nothing compiled by "
                        "PyTorch, 4 epochs")
    options = parser.parse_args(arguments)
    if options.side:
        sides.select_device(options.device)
        make = {"ours": ours, "eager": lambda o: pytorch(o, False),
                "compiled": lambda o: pytorch(o, True), "official": official}[options.side]
        sides.serve(lambda: make(options))
        return {}
    if options.quick:
        options.repeats, options.epochs = 1, min(options.epochs, 4)
        options.sides = ",".join(s for s in options.sides.split(",") if s != "compiled")
    chosen = options.sides.split(",")
    if unknown := set(chosen) - set(NAMES):
        raise SystemExit(f"--sides {','.join(sorted(unknown))}: choose from {','.join(NAMES)}")
    config = sides.configure(options.preset, options.dtype, options.small)
    from sleeplm_jax.models.summary import parameters_of

    # Weights, and once more while they are read; keys and values of a batch.
    text = config.model.text
    kept = 8 * options.batch * options.tokens * text.width * (text.depth + 2 * text.decoder_depth)
    need = 8 * parameters_of(config) + 2 * kept
    together = sides.fit(len(chosen), need, options.device)
    print(f"{sides.machine(options.device)}; {options.preset}, {options.dtype}, "
          f"sides timed {'turn about' if together else 'one after the other'}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        given = ["--preset", options.preset, "--device", options.device, "--dtype", options.dtype,
                 "--tokens", str(options.tokens), "--epochs", str(options.epochs),
                 "--batch", str(options.batch), "--weights", str(Path(folder) / "weights.npz"),
                 *["--small"] * options.small]
        found = sides.in_turn(__file__, chosen, given, cases_of, options.repeats, together,
                              options.budget, options.rounds)
        report(options, found)
    result = {"machine": sides.machine(options.device), "preset": options.preset,
              "dtype": options.dtype, "tokens": options.tokens, "epochs": options.epochs,
              "together": together, "sides": found}
    print(f"at the end: {result['machine']}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return result


if __name__ == "__main__":
    main()
