"""The random forests: scikit-learn's answers from plain arrays, stored and loaded as any other model."""

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier

from tasks.attention_mil.forest import Forest, ForestConfig

CLIPS, DIMENSION = 300, 16
SMALL = ForestConfig(trees=12, depth=5)


@pytest.fixture(scope="module")
def judged():
    """Bags of 4 instances, and labels of four classes: two to learn, one that is always there, one never judged."""
    generator = np.random.default_rng(0)
    features = generator.normal(size=(CLIPS, 4, DIMENSION)).astype(np.float32)
    means = features.mean(axis=1, dtype=np.float64)
    labels = np.full((CLIPS, 4), np.nan, dtype=np.float32)
    labels[:, 0] = means[:, 3] + 0.2 * generator.normal(size=CLIPS) > 0
    labels[:, 1] = means[:, 5] * means[:, 6] > 0.02
    labels[generator.random((CLIPS, 4)) < 0.4] = np.nan
    labels[:50, 2] = 1
    return features, labels


@pytest.fixture(scope="module")
def fitted(judged):
    features, labels = judged
    forest = Forest(DIMENSION, 4)
    forest.fit(features.mean(axis=1, dtype=np.float64).astype(np.float32), labels, SMALL, seed=7)
    return forest


def answers(forest, features):
    with torch.inference_mode():
        return forest(torch.from_numpy(features))[..., 0].numpy()


def test_answers_are_those_of_scikit_learn(judged, fitted):
    features, labels = judged
    unseen = np.random.default_rng(1).normal(size=(200, 4, DIMENSION)).astype(np.float32)
    for heard in (features, unseen):
        got = answers(fitted, heard)
        means = heard.mean(axis=1, dtype=np.float64).astype(np.float32)
        for label in range(2):
            known = ~np.isnan(labels[:, label])
            trained_on = features[known].mean(axis=1, dtype=np.float64).astype(np.float32)
            theirs = RandomForestClassifier(12, max_depth=5, random_state=7).fit(trained_on, labels[known, label])
            np.testing.assert_allclose(got[:, label], theirs.predict_proba(means)[:, 1], atol=1e-6)
        assert got[:, 0].std() > 0.1


def test_class_without_a_choice_needs_no_tree(judged, fitted):
    got = answers(fitted, judged[0])
    assert (got[:, 2] == 1).all()  # whoever judged found it
    assert (got[:, 3] == 0.5).all()  # nobody did
    assert (answers(Forest(DIMENSION, 4), judged[0]) == 0.5).all()


def test_values_at_a_threshold_go_where_scikit_learn_sends_them():
    """Whole numbers: thresholds lie at halves, and half the clips to ask about lie on them."""
    generator = np.random.default_rng(3)
    means = generator.integers(0, 4, size=(120, 3)).astype(np.float32)
    labels = (means.sum(axis=1) > 4.5).astype(np.float32)
    forest = Forest(3, 1)
    forest.fit(means, labels[:, None], SMALL)
    theirs = RandomForestClassifier(12, max_depth=5, random_state=0).fit(means, labels)
    asked = generator.integers(0, 8, size=(200, 3)).astype(np.float32) / 2
    np.testing.assert_allclose(answers(forest, asked[:, None])[:, 0], theirs.predict_proba(asked)[:, 1], atol=1e-6)


def test_stored_forest_loads_into_an_unfitted_one(judged, fitted, tmp_path):
    torch.save(fitted.state_dict(), tmp_path / "weights.pt")
    stored = torch.load(tmp_path / "weights.pt", weights_only=True)
    fresh = Forest(DIMENSION, 4)
    fresh.load_state_dict(stored)
    np.testing.assert_array_equal(answers(fresh, judged[0]), answers(fitted, judged[0]))
    assert int(fresh.clips) == CLIPS
    fresh.load_state_dict(Forest(DIMENSION, 4).state_dict())  # and back to fewer trees
    assert (answers(fresh, judged[0]) == 0.5).all()
    inside = torch.nn.Sequential(Forest(DIMENSION, 4))
    inside.load_state_dict({f"0.{name}": values for name, values in stored.items()})
    np.testing.assert_array_equal(answers(inside, judged[0]), answers(fitted, judged[0]))


def damaged(name, change):
    def apply(state):
        state[name] = state[name].clone()
        change(state)

    return apply


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (damaged("onward", lambda state: state["onward"][3].fill_(0)), "leads nowhere, or back"),
        (damaged("onward", lambda state: state["onward"][0].fill_(10**9)), "leads nowhere, or back"),
        (damaged("roots", lambda state: state["roots"][0].fill_(-1)), "leads nowhere, or back"),
        (damaged("feature", lambda state: state["feature"].fill_(DIMENSION)), "asks for dimension 16 of embeddings"),
        (damaged("value", lambda state: state["value"].fill_(np.nan)), "outside of 0 to 1"),
        (lambda state: state.update(feature=state["feature"].double()), "expected int64"),
        (lambda state: state.update(value=state["value"][:-1]), "expected onward"),
        (lambda state: state.update(roots=state["roots"][:2]), r"expected roots \(4, tree\)"),
        (lambda state: state.update(value=torch.tensor(0.5)), "expected onward"),
        (lambda state: state.pop("roots"), "Missing key"),
    ],
)
def test_what_is_no_forest_is_refused(fitted, damage, told):
    state = dict(fitted.state_dict())
    damage(state)
    with pytest.raises(RuntimeError, match=told):
        Forest(DIMENSION, 4).load_state_dict(state)


def test_clips_that_are_drawn_often_count_once(judged, fitted):
    features, labels = judged
    drawn = np.concatenate([np.arange(CLIPS), np.random.default_rng(2).integers(CLIPS, size=500)])
    stream = [{"features": features[some], "labels": labels[some]} for some in np.array_split(drawn, 9)]
    forest = Forest(DIMENSION, 4)
    figures = forest.fit_stream(stream, SMALL, seed=7)
    assert figures["clips"] == CLIPS
    assert 0 < figures["loss"] < 0.6
    np.testing.assert_array_equal(answers(forest, features), answers(fitted, features))


def test_forests_grow_with_the_clips_and_rest_without_new_ones(judged, monkeypatch):
    features, labels = judged
    grown = []
    grow = Forest.fit
    monkeypatch.setattr(Forest, "fit", lambda self, *given: (grown.append(len(given[0])), grow(self, *given)))
    forest = Forest(DIMENSION, 4)
    for some in (slice(0, 200), slice(100, 300), slice(0, 300), slice(50, 150)):
        forest.fit_stream([{"features": features[some], "labels": labels[some]}], SMALL)
    assert grown == [200, 300]
