"""Studies for tests: a file on the tiny experiment, and cells made by hand."""

from pathlib import Path

from sleeplm_jax.config import RunConfig
from sleeplm_jax.scaling.plan import Cell, Data, Plan
from sleeplm_jax.scaling.study import Grid, PowerRule, Size, Speed, Study

TINY = Path(__file__).parents[1] / "training" / "tiny.py"

SOURCE = f'''
from sleeplm_jax.scaling.study import Grid, Measure, PowerRule, Size, Speed, Study

def get_study():
    return Study(
        name="tiny", experiment={str(TINY)!r},
        sizes=(Size("narrow", {{"model.encoder.width": 16}}), Size("wide", {{}})),
        grids=(Grid(budgets=(4e9, 8e9)),),
        learning_rate=PowerRule(3e-3, exponent=-0.125, at=1e9),
        batch_size=PowerRule(8), speed=Speed(flops_per_s=1e10, sample_s=1e-3, cell_s=10.0),
        measure=Measure(samples=48, batch_size=16), min_steps=2, vocabulary=1024, hours=2.0,
    )
'''


def study_file(folder: Path, source: str = SOURCE) -> Path:
    path = folder / "study.py"
    path.write_text(source)
    return path


def a_study(**changes) -> Study:
    values = dict(
        name="made", experiment=str(TINY), sizes=(Size("one", {}),),
        grids=(Grid(budgets=(1e9,)),), learning_rate=PowerRule(1e-3), batch_size=PowerRule(8),
        speed=Speed(flops_per_s=1e9), hours=1.0,
    )
    return Study(**values | changes)


def a_cell(name: str, **changes) -> Cell:
    values = dict(
        name=name, size="one", budget=1e9, n=10, n_all=20, flops=10**9, samples=80, steps=10,
        batch_size=8, learning_rate=1e-3, hours=80 / 120, unique_hours=1.0, passes=80 / 120,
        seed=0, seconds=1.0, memory_bytes=1, fields={}, config=RunConfig(),
    )
    return Cell(**values | changes)


def a_plan(*cells: Cell, study: Study | None = None) -> Plan:
    study = study or a_study()
    return Plan(study, cells, (), Data(1024, {0.0: 1.0}, False), study.speed)
