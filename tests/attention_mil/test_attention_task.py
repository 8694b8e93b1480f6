"""Task attention_mil: its config, what it is told of songs, and that its models learn from weak labels."""

import numpy as np
import pytest
import torch

from timbrel.config import from_json, to_json, with_values
from timbrel.errors import UserError
from timbrel.outputs import Outputs
from timbrel.tags import JudgedSong
from timbrel.trained import TrainedModel
from timbrel.training.loop import Learner, predict

CPU = torch.device("cpu")
PUBLISHED = {
    "attention": (5e-4, 0.6, 250),
    "fc": (1e-4, 0.5, 100),
    "fc_t": (5e-4, 0.5, 100),
    "rnn": (5e-4, 0.5, 100),
}


def batches(examples, size=16):
    count = len(examples["labels"])
    columns = {name: values for name, values in examples.items() if name != "where"}
    return [{name: values[i : i + size] for name, values in columns.items()} for i in range(0, count, size)]


@pytest.mark.parametrize("name", PUBLISHED)
def test_presets_are_as_published(mil_task, name):
    preset = mil_task.presets["paper" if name == "attention" else name]
    config = with_values(mil_task.config_type(), preset)
    assert (config.model, config.learning_rate, config.drops, config.training.epochs) == (name, *PUBLISHED[name])
    assert (config.weight_decay, config.training.batch_size, config.training.decay_at(240)) == (1e-5, 128, 1.0)
    assert config.training.examples_per_epoch == 99 * 128  # of 12,678 clips
    assert (config.teacher.name, config.teacher.normalisation) == ("vggish", (0.0, 1 / 255))
    assert mil_task.hears_embeddings(config)
    assert config.evaluation.threshold_rule == "fixed"
    assert config.evaluation.fixed_threshold == 0.5


def test_every_preset_is_a_config_that_survives_storage(mil_task):
    for preset in mil_task.presets.values():
        config = with_values(mil_task.config_type(), preset)
        assert from_json(mil_task.config_type, to_json(config), "here") == config


def test_a_study_over_models_gives_each_its_own_rate(mil_task):
    """A trial's values are applied to the study's config, whose model is another."""
    base = mil_task.config_type()
    trials = {name: with_values(base, {"model": name}) for name in ("attention", "fc", "mean", "random_forest")}
    assert {name: trial.learning_rate for name, trial in trials.items()} == {
        "attention": 5e-4,
        "fc": 1e-4,
        "mean": 1e-4,
        "random_forest": 0.0,
    }
    chosen = with_values(base, {"model": "fc", "lr": "0.01", "dropout": "0"})
    assert (chosen.learning_rate, chosen.drops) == (0.01, 0.0)
    assert with_values(chosen, {"lr": "none"}).learning_rate == 1e-4


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"teacher.name": ""}, "teacher.name must say whose embeddings are heard"),
        ({"model": "random_forest", "training.workers": 2}, "must be 1 where model=random_forest"),
        ({"model": "cnn"}, "model=cnn"),
        ({"dropout": 1.0}, "dropout"),
        ({"vocabulary": "slakh"}, "vocabulary=slakh"),
        ({"forest.depth": 0}, "forest.depth=0"),
    ],
)
def test_configs_that_cannot_work_are_refused(mil_task, values, told):
    with pytest.raises(UserError, match=told):
        with_values(mil_task.config_type(), values)


def test_model_needs_the_size_of_the_embeddings(mil_task):
    with pytest.raises(UserError, match=r"size of the embeddings 'vggish' is not known"):
        mil_task.build_model(mil_task.config_type())


def song(name, tags, vocabulary=()):
    return JudgedSong("clips", name, tags, frozenset(vocabulary))


def test_labels_are_those_of_the_song_and_nan_where_nobody_judged(mil_task):
    config = mil_task.config_type()
    labels = mil_task.song_labels([song("a", {"banjo": 0.5, "voice": 0.2}), song("b", {"cello": 1.0})], config)
    names = mil_task.classes(config)
    assert labels.shape == (2, 20)
    assert {names[i]: labels[0, i] for i in np.flatnonzero(~np.isnan(labels[0]))} == {"banjo": 1.0, "voice": 0.0}
    assert np.isnan(labels[1]).sum() == 19
    with pytest.raises(UserError, match=r"nobody judged the songs of clips on any class of magnatagatune"):
        mil_task.song_labels([song("a", {"banjo": 1.0})], with_values(config, {"vocabulary": "magnatagatune"}))


@pytest.mark.parametrize(("model", "lr"), [("attention", 0.01), ("fc", 0.003), ("fc_t", 0.01), ("rnn", 0.01)])
def test_it_learns_from_the_judged_labels_alone(mil_task, small_mil, bags, model, lr):
    config = small_mil(model=model, lr=lr, dropout=0.1)
    learner, train, test = Learner(mil_task, config, CPU), bags(256), bags(200, seed=1, judged=1.0)
    losses = [learner.train_epoch(batches(train))["loss"] for _ in range(12)]
    assert losses[-1] < 0.5 * losses[0]
    outputs = learner.predict(test)
    figures = mil_task.evaluate(outputs, dict.fromkeys(outputs.classes, 0.5), config)
    assert figures["openmic_f1"] > 0.9
    assert ("attention" in outputs.more) == (model == "attention")


def test_attention_goes_to_the_instance_that_tells(mil_task, small_mil, bags):
    learner, train, test = Learner(mil_task, small_mil(lr=0.01, dropout=0.0), CPU), bags(256), bags(200, seed=1)
    for _ in range(25):
        learner.train_epoch(batches(train))
    attention = learner.predict(test).more["attention"]
    for label in range(2):
        sounding = test["labels"][:, label] == 1
        where = test["where"][sounding, label]
        assert attention[sounding, label][np.arange(len(where)), where].mean() > 2 / 5  # even: 1 / 5


def test_forest_is_fitted_and_judged_like_the_others(mil_task, small_mil, bags):
    config = small_mil(model="random_forest", forest__trees=20, forest__depth=6)
    learner, train, test = Learner(mil_task, config, CPU), bags(200), bags(100, seed=1, judged=1.0)
    figures = learner.train_epoch(batches(train))
    assert figures["clips"] == 200
    assert figures["loss"] < 0.4
    outputs = learner.predict(test)
    judged = mil_task.evaluate(outputs, dict.fromkeys(outputs.classes, 0.5), config)
    assert judged["openmic_f1"] > 0.8
    assert outputs.more == {}
    fresh = Learner(mil_task, config, CPU)  # as a resumed run, and as the best epoch's weights come back
    fresh.load_state_dict(learner.state_dict())
    np.testing.assert_array_equal(fresh.predict(test).scores, outputs.scores)


def test_trained_models_are_data(mil_task, small_mil, bags, tmp_path):
    for model in ("attention", "random_forest"):
        config = small_mil(model=model, forest__trees=5)
        learner = Learner(mil_task, config, CPU)
        learner.train_epoch(batches(bags(60)))
        TrainedModel(mil_task, config, dict.fromkeys(mil_task.classes(config), 0.5), learner.model.state_dict()).save(
            tmp_path / model
        )
        weights = torch.load(tmp_path / model / "weights.pt", weights_only=True)
        stored = from_json(mil_task.config_type, (tmp_path / model / "config.json").read_text(), "there")
        again = TrainedModel(mil_task, stored, {}, weights)
        heard = bags(20, seed=2)["features"]
        expected = predict(mil_task, learner.model, heard, CPU)["scores"]
        np.testing.assert_allclose(np.stack(list(again.probabilities(heard))), expected, atol=1e-6)


def outputs_of(labels, scores, **more):
    labels, scores = np.array(labels, dtype=np.float32), np.array(scores, dtype=np.float32)
    return Outputs(
        tuple("ab")[: labels.shape[1]], np.array([f"song {i}" for i in range(len(labels))]), labels, scores, more
    )


def test_openmic_figures_by_hand(mil_task):
    """Class a: hits 1, false alarms 1, misses 1, right rejections 2, and one clip that nobody judged. Present:
    precision and recall 1/2; absent: 2/3. Class b has no absent clip, and no figure."""
    found = outputs_of(
        [[1, 1], [0, 1], [1, 1], [0, np.nan], [0, np.nan], [np.nan, 1]],
        [[0.5, 0.9], [0.8, 0.9], [0.1, 0.9], [0.2, 0.9], [0.3, 0.9], [0.9, 0.9]],
    )
    figures = mil_task.evaluate(found, {"a": 0.95, "b": 0.95}, mil_task.config_type())  # which 0.5 takes no notice of
    for name in ("openmic_f1", "openmic_precision", "openmic_recall"):
        assert figures[name] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert figures["f1_macro"] == 0
    assert "openmic_f1" in mil_task.headline.values()


def test_pictures_are_of_three_songs_of_which_most_is_known(mil_task, small_mil):
    generator = np.random.default_rng(0)
    attention = generator.dirichlet(np.ones(5), size=(6, 2)).astype(np.float32)
    labels = [[1, 1], [0, np.nan], [1, 0], [np.nan, 1], [1, 1], [np.nan, np.nan]]
    found = outputs_of(labels, generator.random((6, 2)), attention=attention)
    pictures = mil_task.pictures(found, {"a": 0.5, "b": 0.5}, small_mil())
    titles = [figure.get_suptitle() for figure in pictures.values()]
    assert list(pictures) == ["attention_1", "attention_2", "attention_3"]
    assert [title.partition(":")[0] for title in titles] == ["song 0", "song 4", "song 2"]
    assert mil_task.pictures(outputs_of(labels, generator.random((6, 2))), {}, small_mil()) == {}


def test_words_for_those_who_are_given_a_model(mil_task, small_mil):
    config = small_mil(teacher__scale=1 / 255)
    assert "embeddings `vggish`: (value - 0) * 0.00392157, float32 of shape (time, 8)" in mil_task.answer(config)
    assert "attention" in mil_task.usage(config)
    assert mil_task.usage(small_mil(model="rnn")) == ""
    with pytest.raises(UserError, match="leave out --onnx"):
        mil_task.onnx_network(mil_task.build_model(config), config)
