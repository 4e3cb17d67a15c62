"""A study's file: what it may state, and the one line said of what cannot be run."""

import pytest

from sleeplm_jax.config import RunConfig
from sleeplm_jax.errors import ConfigError
from sleeplm_jax.scaling.study import PowerRule, changed, load_study
from tests.scaling.studies import SOURCE, TINY, study_file


def test_a_study_loads_with_its_experiments_config(tmp_path):
    study, base = load_study(study_file(tmp_path))
    assert [size.name for size in study.sizes] == ["narrow", "wide"]
    assert study.experiment == str(TINY.resolve()) and base.name == "tiny"
    assert study.where.endswith("study.py")


def test_the_committed_study_loads():
    study, base = load_study(TINY.parents[2] / "experiments" / "scaling_study.py")
    assert len(study.sizes) >= 4 and base.objective.caption > 0
    assert max(len(grid.unique_hours) for grid in study.grids) >= 4
    assert max(len(grid.seeds) for grid in study.grids) >= 3


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        ("def get_study", "def get_studies", "has no get_study"),
        ("def get_study():", "def get_study(:", "fails to load .SyntaxError"),
        ("    return Study(", "    raise SystemExit(1)\n    return Study(", "SystemExit: 1"),
        ("    return Study(", "    return 3\n    return Study(", "returned int"),
        ('"model.encoder.width": 16', '"data.text_length": 16', "only fields below `model.`"),
        ('"model.encoder.width": 16', '"model.encoder.wide": 16', "no field 'model.encoder.wide'"),
        ('"model.encoder.width": 16', '"model.encoder.width": 15', "2 heads do not divide"),
        ('Size("wide"', 'Size("narrow"', "has one twice"),
        ('"wide"', '"wi/de"', "part of a folder's name"),
        ("budgets=(4e9, 8e9)", "budgets=(4e9)", "has budgets 4000000000.0; give a tuple of"),
        ("budgets=(4e9, 8e9)", "budgets=('4e9',)", "give a tuple of"),
        ("budgets=(4e9, 8e9)", "budgets=(4e9,), seeds=(0.5,)", "has seeds .0.5,.; give a tuple"),
        ("PowerRule(8)", "PowerRule(.1)", "is 0.1 at 4e.09 FLOPs: less than a sample"),
        ("PowerRule(8)", "8", "batch_size: is 8; give a PowerRule"),
        ("speed=Speed(", "max_passes=float('nan'), speed=Speed(", "max_passes: is nan"),
        ("vocabulary=1024", "vocabulary=0", "vocabulary: is 0"),
        ("budgets=(4e9, 8e9)", "budgets=(0.0,)", "give positive numbers of FLOPs"),
        ("budgets=(4e9, 8e9)", "budgets=(4e9,), sizes=('large',)", "unknown sizes .'large'."),
        ("samples=48", "samples=8", "at least one batch"),
        ("flops_per_s=1e10", "flops_per_s=0", "is 0 FLOP/s"),
        ("PowerRule(8)", "PowerRule(-8)", "batch_size: is -8"),
        (str(TINY), "nowhere.py", "no such experiment file"),
    ],
)
def test_what_cannot_be_run_is_one_line(tmp_path, old, new, finding):
    assert old in SOURCE
    with pytest.raises(ConfigError, match=finding) as caught:
        load_study(study_file(tmp_path, SOURCE.replace(old, new)))
    assert "\n" not in str(caught.value)


def test_a_power_rule_is_a_power():
    rule = PowerRule(3e-3, exponent=-0.125, at=1e9)
    assert rule(1e9) == 3e-3
    assert rule(256e9) == pytest.approx(1.5e-3)  # 256 ** (1 / 8) is 2


def test_changed_fields_keep_their_types():
    assert changed(RunConfig(), {"model.encoder.width": 64}, "x").model.encoder.width == 64
    with pytest.raises(ConfigError, match="width is 'wide', not a int"):
        changed(RunConfig(), {"model.encoder.width": "wide"}, "x")
