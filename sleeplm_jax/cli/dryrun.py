"""`sleeplm dryrun`: what a training needs on devices that are not here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Optional

import tyro

from sleeplm_jax.cli.saying import console, say
from sleeplm_jax.errors import UserError

ABOUT = """Shapes, shardings, memory, collectives, FLOPs and a predicted step time of a training, on
devices that are not here. Nothing is run. Fields of the config follow as for `sleeplm train`
(`--data.batch-size 1024 --mesh.fsdp 8`); the run's own --out and --name are not among them."""


@dataclass(frozen=True)
class Options:
    which: Annotated[str, tyro.conf.Positional]
    """An experiment file, or a preset (`sleeplm model list`)."""
    topology: str = ""
    """cpu:8, gpu:h100x64, v5e:4x4, v6e:16x16 or v5p:2x2x4 (chips of each axis)."""
    vocabulary: int = 2048
    """Tokens where the config leaves them to the tokenizer."""
    arrays: bool = False
    """Every parameter's shape and sharding too."""
    json: Optional[Path] = None
    """File that all figures are written to."""
    out: Optional[Path] = None
    """Folder for the weak-scaling picture."""
    calibration: Optional[Path] = None
    """A file that --calibrate wrote on a device of this kind: predictions are multiplied by it."""
    calibrate: Optional[Path] = None
    """Run steps of this config on the device at hand (data.batch-size is that one device's) and
    write what they took beside what was predicted."""


def dryrun(which: tyro.conf.Positional[str]) -> int:
    """Say what a training needs on devices that are not here: memory, collectives, time.

    `sleeplm dryrun experiments/small.py --topology gpu:h100x8`; `sleeplm dryrun --help` has the
    options. Fields of the config follow as for `sleeplm train`.

    Args:
        which: An experiment file, or a preset (`sleeplm model list`).
    """
    return dryrun_with([which])


def dryrun_with(arguments: list[str]) -> int:
    """`dryrun`, with its options and the overrides that follow."""
    from sleeplm_jax.config.files import load_experiment
    from sleeplm_jax.config.validation import validate
    from sleeplm_jax.models.presets import preset

    options, fields = tyro.cli(Options, args=arguments, prog="sleeplm dryrun", description=ABOUT,
                               return_unknown_args=True)
    if not options.topology and options.calibrate is None:
        from sleeplm_jax.scaling.dryrun.hardware import FORMS

        raise UserError("--topology", "is not given", f"give {FORMS}")
    if options.vocabulary < 1:
        raise UserError("--vocabulary", f"is {options.vocabulary}",
                        "give a positive number of tokens")
    is_file = options.which.endswith(".py") or Path(options.which).exists()
    default = load_experiment(options.which) if is_file else preset(options.which)
    config = tyro.cli(type(default), default=default, args=fields,
                      prog=f"sleeplm dryrun {options.which}")
    config = _with_vocabulary(validate(config), options.vocabulary)
    if options.calibrate is not None:
        return _calibrate(config, options.calibrate)
    return _plan(config, options)


def _with_vocabulary(config, tokens: int):
    """The vocabulary as training rounds it, without JAX (models.build.with_vocabulary has it)."""
    import dataclasses

    rounded = -(-(config.model.vocab_size or tokens) // 128) * 128
    return dataclasses.replace(
        config, model=dataclasses.replace(config.model, vocab_size=rounded)
    )


def _plan(config, options: Options) -> int:
    import json

    from sleeplm_jax.files import make_folder, write_atomically
    from sleeplm_jax.places import place
    from sleeplm_jax.reports import dryrun as shown
    from sleeplm_jax.scaling.dryrun.hardware import topology
    from sleeplm_jax.scaling.dryrun.plan import check, check_fit, dry_run, read_calibration

    there = topology(options.topology)
    calibration = read_calibration(options.calibration, there) if options.calibration else None
    check(config, there)
    say(f"compiling {config.name} for {there.name}: up to some minutes")
    found = dry_run(config, there, calibration)
    if options.arrays:
        console().print(shown.arrays(found))
    first, *others = shown.lines(found)
    say(first)
    console().print(shown.memory(found))
    if found.traffic:
        console().print(shown.collectives(found))
    for line in others:
        say(line)
    if found.weak:
        console().print(shown.weak(found))
    for line in found.assumed:
        say(f"assumed: {line}")
    if options.json:
        write_atomically(place(options.json),
                         (json.dumps(found.as_json(), indent=1) + "\n").encode())
        say(f"figures in {options.json}")
    if options.out is not None:
        if not any(point.prediction for point in found.weak):
            say("no picture: no step time is predicted")
        else:
            make_folder(place(options.out))
            path = options.out / "weak_scaling.png"
            write_atomically(place(path), shown.plot(found))
            say(f"picture in {path}")
    check_fit(found)
    return 0


def _calibrate(config, path: Path) -> int:
    from sleeplm_jax.files import write_json
    from sleeplm_jax.places import place
    from sleeplm_jax.reports.dryrun import duration, size
    from sleeplm_jax.scaling.dryrun.calibrate import calibrate

    found = calibrate(config)
    say(f"{found['name']}, batch {found['batch_size']}, on one {found['device']}")
    say(f"memory  {size(found['peak_bytes'])} measured, {size(found['predicted_bytes'])} "
        f"predicted; what is reckoned times {found['memory_factor']:.2f}")
    say(f"step    {duration(found['step_s'])} measured, {duration(found['predicted_s'])} by the "
        f"roofline; times {found['time_factor']:.2f}")
    write_json(place(path), found)
    say(f"written to {path}; give it as --calibration")
    return 0
