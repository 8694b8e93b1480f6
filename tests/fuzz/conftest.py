"""Random bad input: success or one sentence may come of it, nothing else.

A few hundred inputs, the same each time, are part of the quick tests. `make fuzz`, or
``pytest tests/fuzz --fuzz-inputs 10000``, tries as many as are asked for, others each time.
"""

import shutil
from collections import Counter

import pytest
from hypothesis import HealthCheck, settings

from timbrel.cli.data import _report
from timbrel.errors import UserError
from timbrel.library import Library
from timbrel.prepare import prepare

QUICK_INPUTS = 320
TESTS = 8
"""How many tests share the inputs."""

_TALLY: Counter[str] = Counter()


def pytest_addoption(parser):
    parser.addoption("--fuzz-inputs", type=int, default=QUICK_INPUTS, help="inputs of tests/fuzz, over all its tests")


def pytest_configure(config):
    # Started from the folder above, pytest comes here too late to take the option.
    inputs = config.getoption("--fuzz-inputs", default=QUICK_INPUTS)
    settings.register_profile(
        "fuzz",
        deadline=None,
        max_examples=max(1, inputs // TESTS),
        derandomize=inputs == QUICK_INPUTS,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )


def pytest_terminal_summary(terminalreporter):
    if _TALLY:
        counts = ", ".join(f"{what} {count}" for what, count in sorted(_TALLY.items()))
        terminalreporter.write_line(f"fuzz: {_TALLY.total()} inputs ({counts})")


@pytest.fixture(scope="session")
def attempt():
    """Call a function; return its result, or None if it was refused with a sentence."""

    def call(kind, function):
        try:
            result = function()
        except UserError:
            _TALLY[f"{kind} refused"] += 1
            return None
        _TALLY[f"{kind} taken"] += 1
        return result

    return call


@pytest.fixture(scope="session")
def attempt_prepare(attempt, tmp_path_factory):
    """Prepare a path with a source, and check the library that came of it, or that nothing did; return the facts."""
    root = tmp_path_factory.mktemp("fuzz") / "library"

    def call(kind, source, path, options):
        shutil.rmtree(root, ignore_errors=True)
        done = attempt(kind, lambda: prepare(source, path, root, options))
        if done is None:
            assert not root.exists()
            return None
        facts = done[0]
        catalogue = Library.open(root).catalogue()
        assert catalogue.num_rows == facts["stems"] > 0
        assert all((root / path).is_file() for path in catalogue["path"].to_pylist())
        assert all(0 <= value <= 1 for activity in catalogue["activity"].to_pylist() for value in activity)
        assert Library.open(root).notes().num_rows == facts["notes"]
        _report(facts, root).encode()
        return facts

    return call
