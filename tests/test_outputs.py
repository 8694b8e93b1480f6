"""The outputs that a run keeps, and the decision rules that are tried on them."""

import numpy as np
import pytest

from timbrel import metrics, registry
from timbrel.config import with_values
from timbrel.errors import UserError
from timbrel.outputs import Outputs
from timbrel.rejudge import rejudge

CLASSES = ("piano", "drums", "voice")
TASK = registry.load("task", "multi_instrument")


def config(rule):
    return with_values(TASK.config_type(), {"evaluation.threshold_rule": rule, "evaluation.fixed_threshold": 0.35})


def outputs(seed, examples=60):
    generator = np.random.default_rng(seed)
    labels = (generator.random((examples, 3)) < (0.5, 0.2, 0.1)).astype(np.float32)
    scores = np.clip(0.3 * labels + 0.5 * generator.random((examples, 3)), 0, 1).astype(np.float32)
    return Outputs(CLASSES, np.array([f"Stück {i % 7}" for i in range(examples)]), labels, scores)


def test_a_round_trip(tmp_path):
    before = outputs(0)
    before.save(tmp_path / "some" / "valid.npz")
    after = Outputs.load(tmp_path / "some" / "valid.npz")
    assert after.classes == CLASSES
    assert after.songs.tolist() == before.songs.tolist()
    np.testing.assert_array_equal(after.scores, before.scores)
    np.testing.assert_array_equal(after.labels, before.labels)


def test_damaged_or_missing_outputs(tmp_path):
    file = tmp_path / "test.npz"
    with pytest.raises(UserError, match=r"test\.npz can't be read as outputs of a run"):
        Outputs.load(file)
    outputs(0).save(file)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match="can't be read"):
        Outputs.load(file)
    np.savez(file, classes=np.array([{1: 2}], dtype=object))
    with pytest.raises(UserError, match="can't be read"):
        Outputs.load(file)


@pytest.mark.parametrize("rule", ["fixed", "global", "per_class"])
def test_rules_are_chosen_on_validation_and_judged_on_test(rule):
    both = {"valid": outputs(1), "test": outputs(2)}
    thresholds, figures = rejudge(TASK, both, config(rule))
    assert tuple(thresholds) == CLASSES
    expected = metrics.choose_thresholds(both["valid"].labels, both["valid"].scores, rule, 0.35)
    np.testing.assert_array_equal(list(thresholds.values()), expected)
    decided = both["test"].scores >= expected
    assert figures["test/f1_macro"] == pytest.approx(metrics.macro(metrics.f1(both["test"].labels, decided)))
    assert figures["valid/f1_macro"] != figures["test/f1_macro"]
    if rule == "fixed":
        assert set(thresholds.values()) == {0.35}


def test_thresholds_of_their_own_are_best_on_validation():
    both = {"valid": outputs(1), "test": outputs(2)}
    on_valid = {
        rule: rejudge(TASK, both, config(rule))[1]["valid/f1_macro"] for rule in ("fixed", "global", "per_class")
    }
    assert on_valid["per_class"] >= max(on_valid["global"], on_valid["fixed"])
