"""The optional packages of this room, or one line that says what to install."""

from __future__ import annotations

import importlib
from types import ModuleType

from sleeplm_jax.errors import UserError


def need(package: str, wanted_for: str) -> ModuleType:
    """The module `package` (dotted for a part of it).

    Raises UserError when it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError:
        name = package.partition(".")[0]
        raise UserError(
            wanted_for, f"needs the package {name}, which is not installed",
            f"pip install {name}, or 'sleeplm-jax[torch]' for all that PyTorch's commands need",
        ) from None
