"""What a run's many processes import, each of them, before it does anything: seconds of work on every start."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "sklearn", "scipy.signal", "matplotlib", "librosa", "numba", "mlflow", "ray.tune")


@pytest.mark.parametrize(
    ("module", "needed"),
    [
        ("timbrel.cli", ()),
        ("timbrel.mixing.pool", ()),  # of those that pass batches on
        ("timbrel.mixing.index", ()),
        ("timbrel.training.cleaner", ()),
        ("timbrel.training.worker", ("torch",)),
        ("timbrel.training.trial", ("torch", "ray.tune")),
    ],
)
def test_a_process_imports_what_it_needs(module, needed):
    found = f"import {module}, sys; print(*(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", found], capture_output=True, text=True, check=True, timeout=120)
    assert set(done.stdout.split()) == set(needed)
