"""Configs out of experiment files, and to and from JSON."""

from __future__ import annotations

import dataclasses
import json
import runpy
from pathlib import Path
from typing import Any, get_args, get_type_hints

from sleeplm_jax.config import RunConfig
from sleeplm_jax.errors import ConfigError
from sleeplm_jax.files import write_atomically


def load_experiment(path: str | Path) -> RunConfig:
    """The `RunConfig` that `get_config()` of a Python file returns.

    Raises ConfigError when the file is absent, fails, or has no such function.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(path, "no such experiment file", "give a .py file with get_config()")
    try:
        namespace = runpy.run_path(str(path), run_name="sleeplm_experiment")
    # The user's own file: show where it fails, in one line (also when it calls exit).
    except (Exception, SystemExit) as error:
        raise ConfigError(
            path, f"fails to load ({type(error).__name__}: {error})", "correct the file"
        ) from error
    if "get_config" not in namespace:
        raise ConfigError(path, "has no get_config()", "add `def get_config() -> RunConfig`")
    try:
        config = namespace["get_config"]()
    except (Exception, SystemExit) as error:
        raise ConfigError(
            path, f"get_config() fails ({type(error).__name__}: {error})", "correct the file"
        ) from error
    if not isinstance(config, RunConfig):
        raise ConfigError(
            path, f"get_config() returned {type(config).__name__}", "return a RunConfig"
        )
    return config


def to_dict(config: Any) -> dict:
    """Plain JSON-able dictionary of a config."""
    return dataclasses.asdict(config)


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """`{"data.batch_size": 64, ...}`: one dotted path a field."""
    flat: dict[str, Any] = {}
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        path = f"{prefix}{f.name}"
        if dataclasses.is_dataclass(value):
            flat |= flatten(value, f"{path}.")
        else:
            flat[path] = value
    return flat


def from_dict(kind: type, values: dict, where: object = "config") -> Any:
    """Rebuilds a config dataclass of type `kind` from `to_dict`'s output.

    Raises ConfigError for a field that this version does not know.
    """
    if not isinstance(values, dict):
        raise ConfigError(where, f"{kind.__name__} is {values!r}", "restore the run's own file")
    hints = {f.name: f for f in dataclasses.fields(kind)}
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ConfigError(
            where, f"unknown fields {unknown} in {kind.__name__}",
            "read it with the version of sleeplm_jax that wrote it",
        )
    made = {}
    defaults, types = kind(), get_type_hints(kind)
    for name, value in values.items():
        default = getattr(defaults, name)
        if dataclasses.is_dataclass(default):
            value = from_dict(type(default), value, where)
        else:
            wanted = list if isinstance(default, tuple) else type(default)
            allowed = {list: (list, tuple), float: (float, int)}.get(wanted, (wanted,))
            if type(value) not in allowed:  # isinstance would take true for 1
                raise ConfigError(
                    where, f"{kind.__name__}.{name} is {value!r}, not a {wanted.__name__}",
                    "restore the run's own file",
                )
            value = tuple(value) if wanted is list else value
            member = (get_args(types[name]) or (None,))[0]
            if wanted is list and dataclasses.is_dataclass(member):
                value = tuple(from_dict(member, one, where) for one in value)
        made[name] = value
    return kind(**made)


def save_config(config: RunConfig, path: Path) -> None:
    """Writes the resolved config as JSON, whole or not at all."""
    write_atomically(path, (json.dumps(to_dict(config), indent=1) + "\n").encode())


def load_config(path: Path) -> RunConfig:
    """Reads what `save_config` wrote; ConfigError if it cannot be read."""
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(path, f"cannot be read ({error})", "give a run folder") from error
    return from_dict(RunConfig, values, path)
