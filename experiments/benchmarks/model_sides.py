"""The sides of a comparison, each a process of its own, timed in turn.

Not a benchmark itself: model_training_step.py and model_captioning.py are made of it. A side is a
function that prepares everything, warms up and gives a `Side`; its process answers on its standard
output, a JSON line each, to "go CASE" (runs it, gives seconds) and "end". Only one side works at a
time. Where all of them fit into memory they live side by side and are timed turn about; else each
round starts them anew, one after the other, with a compiler's cache that lasts for the run.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import queue
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

START_SHARE = 0.75  # of the time that sides side by side may take to get ready


class Absent(Exception):
    """Why a side cannot run here, in one line."""


@dataclasses.dataclass
class Side:
    run: Callable[[str], dict]  # a case -> what is to be told beside its seconds
    about: dict = dataclasses.field(default_factory=dict)
    peak_bytes: Callable[[], int] | None = None  # of the device; None: of the process


# ---- In a side's process


def serve(make: Callable[[], Side]) -> None:
    """Answers the parent's commands until "end"."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever libraries print is no answer

    def say(**answer) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    began = time.perf_counter()
    try:
        side = make()
    except Absent as why:
        say(absent=str(why))
        return
    say(about=side.about | {"start_s": time.perf_counter() - began})
    for line in sys.stdin:
        command, _, case = line.strip().partition(" ")
        if command == "end":
            break
        # CPU time of all threads tells what a busy machine's clock does not.
        wall, cpu = time.perf_counter(), time.process_time()
        told = side.run(case)
        say(s=time.perf_counter() - wall, cpu_s=time.process_time() - cpu, **told)
    most = side.peak_bytes or (lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    say(peak_bytes=most())


# ---- In the parent


class Process:
    """A side's process. `ask` waits for an answer until the deadline, then gives up on it."""

    def __init__(self, script: str, side: str, arguments: list[str], cache: Path, deadline: float):
        self.side, self.deadline = side, deadline
        self.log = tempfile.TemporaryFile("w+")
        environment = os.environ | {
            # Both stay on one device together; caches begin empty and end with the run.
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            "JAX_COMPILATION_CACHE_DIR": str(cache / "jax"),
            "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        }
        self.process = subprocess.Popen(
            [sys.executable, script, "--side", side, *arguments], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self.log, text=True, env=environment,
        )
        self.lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put("")

    def ask(self, command: str = "") -> dict:
        if command:
            with contextlib.suppress(BrokenPipeError):
                print(command, file=self.process.stdin, flush=True)
        try:
            line = self.lines.get(timeout=max(0.1, self.deadline - time.monotonic()))
        except queue.Empty:
            raise Absent("the time was over before it had an answer") from None
        if not line:
            self.process.wait()
            self.log.seek(0)
            said = [one for one in self.log.read().splitlines() if one.strip()]
            raise Absent(f"failed: {said[-1][:200] if said else self.process.returncode}")
        answer = json.loads(line)
        if "absent" in answer:
            raise Absent(answer["absent"])
        return answer

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.log.close()


def in_turn(
    script: str, sides: list[str], arguments: list[str], cases: Callable[[str], list[str]],
    repeats: int, together: bool, budget_s: float, rounds: int = 2,
) -> dict[str, dict[str, Any]]:
    """`{side: {"about", "peak_bytes", "runs": {case: [answer, ...]}} or {"absent": why}}`.

    Apart, sides are started `rounds` times, whatever `repeats` says, with more runs in a row.
    """
    found: dict[str, dict[str, Any]] = {name: {"runs": {}} for name in sides}
    began = time.monotonic()
    deadline = began + budget_s

    def start(name: str, cache: Path) -> Process | None:
        # A compiler that does not come to an end leaves time for the sides that are ready.
        soon = began + START_SHARE * budget_s if together else deadline
        process = Process(script, name, arguments, cache, soon)
        try:
            found[name].setdefault("about", process.ask()["about"])
            process.deadline = deadline
            return process
        except Absent as why:
            found[name].setdefault("absent", str(why))
            process.close()
            return None

    def go(process: Process, times: int) -> bool:
        one = found[process.side]
        try:
            for _ in range(times):
                for case in cases(process.side):
                    answer = process.ask(f"go {case}")
                    one["runs"].setdefault(case, []).append(answer)
        except Absent as why:
            # What was timed stands; without any it is the reason why there is nothing.
            one["stopped" if one["runs"] else "absent"] = str(why)
            return False
        return True

    def end(process: Process) -> None:
        one = found[process.side]
        with contextlib.suppress(Absent):
            peak = process.ask("end")["peak_bytes"]
            one["peak_bytes"] = max(peak, one.get("peak_bytes", 0))
        process.close()

    with tempfile.TemporaryDirectory() as folder:
        if together:
            alive = [p for name in sides if (p := start(name, Path(folder)))]
            try:
                for _ in range(repeats):
                    alive = [p for p in alive if go(p, 1) or p.close()]
                for process in alive:
                    end(process)
            finally:
                for process in alive:
                    process.process.kill()
        else:
            rounds = min(rounds, repeats)
            for _ in range(rounds):
                for name in sides:
                    if "absent" in found[name] or time.monotonic() > deadline:
                        continue
                    if process := start(name, Path(folder)):
                        try:
                            if go(process, -(-repeats // rounds)):
                                end(process)
                        finally:
                            process.close()
    return found


def best(answers: list[dict], name: str = "s") -> float:
    """The least of the runs: on a shared machine all else is what others did meanwhile."""
    return min(answer[name] for answer in answers)


def ratio(theirs: list[dict], ours: list[dict]) -> float:
    """Median over rounds of their seconds by ours, each pair measured one after the other."""
    return median(t["s"] / o["s"] for t, o in zip(theirs, ours))


# ---- What it ran on


def free_bytes(device: str) -> int:
    """Memory that new processes may take."""
    if device == "gpu":
        asked = subprocess.run(
            ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"],
            capture_output=True, text=True,
        )
        return int(asked.stdout.split()[0]) << 20 if asked.returncode == 0 else 0
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(x.split()[1]) << 10 for x in lines if x.startswith("MemAvailable"))


def fit(count: int, need: float, device: str) -> bool:
    """Whether so many sides, each of `need` bytes beside what a process has anyway, live side by
    side."""
    return count * (need + 1e9) < 0.8 * free_bytes(device)


def machine(device: str) -> str:
    """The device's name, and what else worked on it: one line."""
    if device == "gpu":
        asked = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"],
            capture_output=True, text=True,
        )
        name = asked.stdout.splitlines()[0] if asked.stdout else "GPU of unknown name"
    else:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), "CPU")
    cores = len(os.sched_getaffinity(0))
    return f"{name}, {cores} cores, load {os.getloadavg()[0]:.1f}"


def select_device(device: str) -> None:
    """In a side's process, before JAX or torch are loaded: that device alone."""
    os.environ["JAX_PLATFORMS"] = "cuda" if device == "gpu" else "cpu"
    if device == "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(
            ","
        )[0]
    else:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def torch_for(device: str, dtype: str):
    """torch, set up as fast as it goes: (module, torch.device, torch.dtype). Raises Absent."""
    try:
        import torch
    except ImportError:
        raise Absent("torch is not installed (extra torch)") from None
    if device == "gpu" and not torch.cuda.is_available():
        raise Absent("torch sees no GPU")
    # XLA's float32 products on a GPU are TF32's; on a CPU this changes nothing.
    torch.set_float32_matmul_precision("high")
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    return torch, torch.device("cuda" if device == "gpu" else "cpu"), getattr(torch, dtype)


def need_compiler(device: str) -> None:
    """Raises Absent where torch.compile has nothing to compile with."""
    from shutil import which

    if device == "gpu":
        try:
            import triton  # noqa: F401
        except ImportError:
            raise Absent("torch.compile needs triton, which is not installed") from None
    elif not which(os.environ.get("CXX", "g++")):
        raise Absent("torch.compile needs a C++ compiler, and there is no g++")


def twin_of(torch, config, device, weights: str | None):
    """The PyTorch twin of a config on a device, with `weights` (an .npz of interop.names'
    arrays) or weights of its own."""
    import numpy as np

    from sleeplm_jax.config import CAPTION_KINDS, PREFIX_LENGTH
    from sleeplm_jax.interop.modeling_sleeplm import SleepLM

    vocab = config.model.vocab_size
    model = SleepLM({
        "model": dataclasses.asdict(config.model),
        "objective": dataclasses.asdict(config.objective),
        "text_length": config.data.text_length, "prefix_length": PREFIX_LENGTH,
        "caption_kinds": list(CAPTION_KINDS),
        "tokens": {"pad": 0, "bos": vocab - 2, "eos": vocab - 1, "unwritten": [],
                   "vocab_size": vocab},
    })
    if weights:
        with np.load(weights) as stored, torch.no_grad():
            for name, x in model.state_dict().items():
                x.copy_(torch.from_numpy(stored[name]))
    return model.to(device)


def store_weights(parameters, path: str) -> None:
    """Our parameters as the twin names them, for the other sides; written once."""
    import jax
    import numpy as np

    from sleeplm_jax.interop.names import to_torch

    if not Path(path).exists():
        np.savez(path, **to_torch(jax.device_get(parameters)))


def parser(description: str, names: dict[str, str]) -> argparse.ArgumentParser:
    """The options that both benchmarks have; those without help are for a side's own process."""
    made = argparse.ArgumentParser(description=description.splitlines()[0])
    made.add_argument("--preset", default="sleeplm-10m")
    made.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    made.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    made.add_argument("--rounds", type=int, default=2, help="starts of every side, where memory "
                      "does not hold all at once")
    made.add_argument("--budget", type=float, default=450, help="seconds in all")
    made.add_argument("--json", type=Path, help="where the figures are written")
    made.add_argument("--small", action="store_true", help=argparse.SUPPRESS)
    made.add_argument("--side", choices=tuple(names), help=argparse.SUPPRESS)
    made.add_argument("--weights", default="", help=argparse.SUPPRESS)
    return made


def configure(preset_name: str, dtype: str, small: bool):
    """The preset's RunConfig in a compute type, with a vocabulary; `small` shrinks it until only
    its shape is left (for tests)."""
    from sleeplm_jax.models.presets import preset

    config = preset(preset_name)
    model, data = config.model, config.data
    if small:
        part = dict(width=64, depth=1, heads=2)
        model = dataclasses.replace(
            model, encoder=dataclasses.replace(model.encoder, **part, patch_samples=192,
                                               caption_tokens=4),
            text=dataclasses.replace(model.text, **part, decoder_depth=1), embed_dim=32,
            vocab_size=256, reconstruction_width=32,
        )
        data = dataclasses.replace(data, text_length=24)
    # A corpus' tokenizer has some 2,048 words; published models bring their own number.
    vocab = model.vocab_size or 2048
    # Without dropout, which the PyTorch side does not draw: same work, same losses.
    encoder = dataclasses.replace(model.encoder, dropout=0.0)
    model = dataclasses.replace(model, encoder=encoder, vocab_size=vocab, compute_dtype=dtype)
    return dataclasses.replace(config, model=model, data=data)
