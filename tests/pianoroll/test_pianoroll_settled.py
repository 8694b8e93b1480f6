"""What is filled in before a run starts, and stays with its model: the front end's engine, the instruments' shares."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tasks.pianoroll.losses import losses
from timbrel.config import with_values
from timbrel.library import Library
from timbrel.mixing.index import build_index
from timbrel.models.cqt import Cqt
from timbrel.trained import TrainedModel
from timbrel.training.loop import Learner

NINE_AND_MORE = ("piano", "bass", "violin", "Celesta")  # nobody in the band plays a celesta


def no_index():
    raise AssertionError("nothing of the training songs is needed")


def index_of(*stems):
    """Return as much of an index as the shares need: for each stem, a song of its own, its notes as (onset, offset,
    class)."""
    parts = [np.array(stem, dtype=float).reshape(-1, 3) for stem in stems]
    every = np.concatenate(parts)
    return SimpleNamespace(
        song_stems=np.arange(len(stems) + 1),
        note_rows=np.append(0, np.cumsum([len(part) for part in parts])),
        note_times=every[:, :2].astype(np.float32),
        note_classes=every[:, 2].astype(np.int16),
    )


@pytest.mark.parametrize(("gpu", "engine"), [(False, "librosa"), (True, "torch")])
def test_the_engine_is_that_of_the_device(roll_task, gpu, engine):
    config = roll_task.config_type()
    assert config.front_end.engine == "auto"
    settled = roll_task.settled(config, no_index, gpu)
    assert settled == with_values(config, {"front_end.engine": engine})
    assert roll_task.settled(settled, no_index, not gpu) == settled  # what is settled stays so elsewhere


@pytest.mark.parametrize("engine", ["librosa", "torch"])
def test_an_engine_that_was_asked_for_is_kept(roll_task, engine):
    config = with_values(roll_task.config_type(), {"front_end.engine": engine})
    for gpu in (False, True):
        assert roll_task.settled(config, no_index, gpu) == config


def test_shares_are_of_the_time_that_instruments_sound(roll_task, tiny_rolls):
    config = with_values(tiny_rolls, {"loss.class_weights": "rare"})
    index = index_of(
        [(0, 2, 0), (1, 3, 0), (1.5, 1.75, 0)],  # a chord counts once: 3 s of the piano
        [(4, 5, 1), (0, 1, 1), (0.5, 0.75, 1)],  # and not in the order of time: 2 s of the violin
        [],
        [(10, 11, 0), (10, 14, 1)],  # two classes in one stem: another 1 s and 4 s
    )
    settled = roll_task.settled(config, lambda: index, False)
    np.testing.assert_allclose(settled.loss.class_shares, [0.4, 0.6, 0.0])
    assert roll_task.settled(settled, no_index, False) == settled
    roll = torch.zeros(1, 3, 88, 32)
    roll[:, 0, 30] = 1
    assert all(torch.isfinite(term) for term in losses(torch.randn(roll.shape), roll, settled.loss).values())


def test_shares_of_a_library_agree_with_counting(roll_task, band_library):
    values = {"instruments": NINE_AND_MORE, "loss.class_weights": "rare", "front_end.engine": "librosa"}
    config = with_values(roll_task.config_type(), values)
    index = build_index(Library.open(band_library), "train", roll_task, config)
    settled = roll_task.settled(config, lambda: index, False)
    step = 1e-3
    counted = np.zeros(len(NINE_AND_MORE))
    for stem in range(len(index.paths)):
        times, _, classes = index.notes_of(stem)
        for label in range(len(counted)):
            on = np.zeros(30_000, dtype=bool)
            for onset, offset in times[classes == label]:
                on[round(onset / step) : round(offset / step)] = True
            counted[label] += on.sum()
    np.testing.assert_allclose(settled.loss.class_shares, counted / counted.sum(), atol=2e-3)
    assert settled.loss.class_shares[3] == 0


def test_other_weights_need_no_index(roll_task, tiny_rolls):
    assert roll_task.settled(tiny_rolls, no_index, False) == tiny_rolls


# The engine is part of the model


@pytest.fixture(scope="module")
def by_engine(roll_task, tiny_rolls, tones):
    """Train for some steps with features of librosa, and return the model with either engine."""
    subject = Learner(roll_task, tiny_rolls, torch.device("cpu"))
    for _ in range(8):
        subject.train_epoch([tones(8)])
    thresholds = dict.fromkeys([*tiny_rolls.instruments, "pianoroll", "pitch roll"], 0.5)
    return {
        engine: TrainedModel(
            roll_task, with_values(tiny_rolls, {"front_end.engine": engine}), thresholds, subject.model.state_dict()
        )
        for engine in ("librosa", "torch")
    }


@pytest.mark.parametrize("engine", ["librosa", "torch"])
def test_a_model_is_loaded_with_the_engine_it_was_trained_with(by_engine, engine, tmp_path, roll_task):
    again = TrainedModel.load(by_engine[engine].save(tmp_path / "model"))
    assert again.config == by_engine[engine].config
    assert again.config.front_end.engine == engine
    assert isinstance(again.model.front_end, Cqt) == (engine == "torch")
    maker = roll_task.example_maker(again.config)
    assert (maker.cqt is None) == (engine == "torch")
    assert not any("front_end" in name for name in again.weights)


def test_both_engines_hear_the_same(by_engine, tones, tiny_rolls):
    windows = tones(6, 5, with_values(tiny_rolls, {"front_end.engine": "torch"}))["audio"]
    found = {
        engine: np.stack([each["logits"] for each in trained.predictions(windows, batch_size=4)])
        for engine, trained in by_engine.items()
    }
    one, other = (values.astype(np.float64) for values in found.values())
    assert one.shape == (6, 3, 88, 32)
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.995
    probabilities = [np.stack(list(trained.probabilities(windows))) for trained in by_engine.values()]
    np.testing.assert_allclose(*probabilities, atol=0.05)


def test_a_network_without_a_front_end_says_so(by_engine):
    with pytest.raises(ValueError, match="only a network with a front end takes waveforms"):
        by_engine["librosa"].model(torch.zeros(1, 32_768))
