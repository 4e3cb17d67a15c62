"""The house's rules: one-way imports, libraries behind their room's door, a light command."""

import ast
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "sleeplm_jax"
# In the order of the flow; a room may import only rooms before it.
ROOMS = ["errors", "places", "files", "config", "parallel", "recordings", "physiology", "captions",
         "corpus", "models", "objectives", "depot", "checkpoints", "inference", "evaluation",
         "training", "interop", "scaling", "reports", "cli"]
DOORS = {
    "edfio": {"recordings"}, "mne": {"recordings"}, "wfdb": {"recordings"}, "h5py": {"recordings"},
    "sleepecg": {"physiology"}, "yasa": {"physiology"}, "neurokit2": {"physiology"},
    "grain": {"corpus"}, "sentencepiece": {"corpus"}, "tensorflow_datasets": {"corpus"},
    "array_record": {"corpus"}, "orbax": {"checkpoints"}, "optax": {"training"},
    "flax": {"models"}, "torch": {"interop"}, "safetensors": {"interop"},
    "onnx": {"interop"}, "onnxscript": {"interop"}, "tokenizers": {"corpus"}, "tyro": {"cli"},
    "sklearn": {"evaluation"}, "matplotlib": {"reports"}, "jinja2": {"reports"},
    "tensorflow": set(), "fsspec": {"places"}, "apache_beam": {"corpus"},
}


def modules():
    return sorted(PACKAGE.rglob("*.py"))


def imports(path):
    """Every module that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(path):
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_room_imports_only_rooms_above_it(path):
    room = room_of(path)
    if room == "__init__":
        return
    assert room in ROOMS, f"{room} has no place in the order"
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "sleeplm_jax" and len(parts) > 1 and parts[1] in ROOMS:
            assert ROOMS.index(parts[1]) <= ROOMS.index(room), f"{path} imports {name}"
        if parts[0] in DOORS:
            assert room in DOORS[parts[0]], f"{path} imports {parts[0]} outside its room"


def test_no_drawer_for_odds_and_ends():
    names = {path.stem for path in modules()} | {path.parent.name for path in modules()}
    assert not names & {"utils", "helpers", "common", "misc"}


def test_nothing_names_a_machine():
    """No absolute home or work path, and no registry's host, in anything that is tracked."""
    root = PACKAGE.parent
    listed = subprocess.run(["git", "-C", str(root), "ls-files"], capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    unwanted = re.compile(r"/(home|work|root)/\w|pypi\.org|files\.pythonhosted")
    for name in listed.stdout.split():
        path = root / name
        if path.suffix in {".py", ".md", ".toml", ".lock", ".yaml", ".sh", ".html", ""}:
            for line in path.read_text(errors="replace").splitlines():
                if "re.compile" not in line:
                    assert not unwanted.search(line), f"{name}: {line.strip()}"


def run(*arguments):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=60)


def test_the_command_is_light():
    """No heavy library for --help, and no JAX backend; 0.3 s where the machine is idle."""
    code = (
        "import sys\nfrom sleeplm_jax.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'jax','numpy','scipy','mne','edfio','matplotlib','grain','flax'}\n"
        "heavy &= set(sys.modules)\n"
        "print('HEAVY', sorted(heavy))"
    )
    assert run("-c", code).stdout.splitlines()[-1] == "HEAVY []"
    took = []
    for _ in range(5):
        # Time on the processor: other tests' processes may hold the cores.
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert run("-m", "sleeplm_jax.cli", "--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(took) < 0.4, took


def test_importing_a_room_starts_no_backend():
    code = (
        "import sleeplm_jax, sleeplm_jax.training.loop, sleeplm_jax.inference.run\n"
        "from jax._src import xla_bridge\nprint('STARTED', bool(xla_bridge._backends))"
    )
    assert run("-c", code).stdout.splitlines()[-1] == "STARTED False"
