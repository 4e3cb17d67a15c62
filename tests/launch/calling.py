"""Calls a script of launch/ in this process: starting one each would be most of the time."""

import contextlib
import importlib.util
import io
import sys
from pathlib import Path
from types import SimpleNamespace

LAUNCH = Path(__file__).parents[2] / "launch"
BESIDE = ("tpus", "slurm_jobs")  # which scripts of launch/ import


def called(script, *arguments):
    """Its exit status, standard output and standard error."""
    out, errors = io.StringIO(), io.StringIO()
    sys.path.insert(0, str(LAUNCH))  # as Python does for a script
    try:
        spec = importlib.util.spec_from_file_location(script, LAUNCH / f"{script}.py")
        module = importlib.util.module_from_spec(spec)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            spec.loader.exec_module(module)
            try:
                status = module.main([str(one) for one in arguments])
            except SystemExit as end:
                status = end.code
    finally:
        sys.path.remove(str(LAUNCH))
        for beside in BESIDE:
            sys.modules.pop(beside, None)
    return SimpleNamespace(returncode=status, stdout=out.getvalue(), stderr=errors.getvalue())
