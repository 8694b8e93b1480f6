"""A teacher in the training loop: the loss it makes, what it is asked for, and what it refuses."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from timbrel import registry
from timbrel.config import with_values
from timbrel.errors import UserError
from timbrel.teaching.config import TeacherConfig
from timbrel.teaching.parts import Parts
from timbrel.teaching.teacher import Teacher, linear_of, teacher_of
from timbrel.training.loop import Learner

CPU = torch.device("cpu")
DIMENSION = 6


@pytest.fixture
def taught(tiny_config):
    """Return a config with a teacher."""

    def make(**values):
        config = with_values(tiny_config, {"training.decay": 1.0})
        return dataclasses.replace(config, teacher=TeacherConfig(name="t", **values))

    return make


@pytest.fixture
def batch(tiny_config, instrument_task):
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, (4, len(instrument_task.classes(tiny_config)))).astype(np.float32)
    return {
        "audio": generator.normal(scale=0.1, size=(4, tiny_config.mixing.samples)).astype(np.float32),
        "labels": labels,
        "teacher": generator.normal(size=(4, 2, DIMENSION)).astype(np.float32),
    }


def head_of(classes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "linear.weight": torch.randn(classes, DIMENSION, generator=generator),
        "linear.bias": torch.randn(classes, generator=generator),
    }


def first_step(task, config, batch, head=None, network=None):
    learner = Learner(task, config, CPU, teacher=teacher_of(task, config, head, network))
    return learner, learner.train_epoch([batch])


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_loss_is_shared_out_by_the_weight(instrument_task, taught, batch, weight):
    _, terms = first_step(instrument_task, taught(weight=weight), batch)
    expected = (1 - weight) * terms["loss_prediction"] + weight * terms["loss_regulariser"]
    assert terms["loss"] == pytest.approx(expected, rel=1e-5)
    assert terms["loss_regulariser"] == terms["loss_distance"]
    assert 0 < terms["loss_distance"] < 1


def test_a_weight_of_0_trains_as_without_a_teacher(instrument_task, taught, tiny_config, batch):
    alone, _ = first_step(instrument_task, tiny_config, batch)
    beside, _ = first_step(instrument_task, taught(weight=0.0), batch)
    for name, tensor in alone.model.state_dict().items():
        torch.testing.assert_close(beside.model.state_dict()[name], tensor, rtol=1e-4, atol=1e-6)


def test_the_last_stage_comes_to_agree_with_the_teacher(instrument_task, taught, batch):
    learner, first = first_step(instrument_task, taught(weight=1.0), batch)
    for _ in range(15):
        last = learner.train_epoch([batch])
    assert last["loss_distance"] < 0.5 * first["loss_distance"]


def test_distillation_imitates_the_head(instrument_task, taught, batch):
    classes = len(instrument_task.classes(None))
    config = taught(kd=1.0, head="RUN", weight=1.0)
    learner, first = first_step(instrument_task, config, batch, head_of(classes))
    assert first["loss_regulariser"] == first["loss_kd"]
    assert "loss_distance" not in first
    for _ in range(60):
        last = learner.train_epoch([batch])
    assert last["loss_kd"] < 0.5 * first["loss_kd"]
    for name, tensor in head_of(classes).items():  # it is imitated, not taught
        own = learner.teacher.regulariser.head.state_dict()[name.split(".")[1]]
        assert torch.equal(own, tensor)


def test_the_state_of_a_run_holds_no_teacher(instrument_task, taught, tiny_config):
    alone = Learner(instrument_task, tiny_config, CPU).state_dict()
    config = taught(kd=0.3, head="RUN")
    teacher = teacher_of(instrument_task, config, head_of(len(instrument_task.classes(None))), None)
    assert Learner(instrument_task, config, CPU, teacher=teacher).state_dict()["model"].keys() == alone["model"].keys()


class Listening(nn.Module):
    """A teacher of one weight: the mean of each half of the audio."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, audio):
        return self.weight * audio.reshape(len(audio), 2, -1).mean(dim=2, keepdim=True)


def test_a_teacher_listens_to_each_example_where_none_is_stored(instrument_task, taught, batch):
    config = taught(weights="FILE", offset=0.5, scale=2.0)
    teacher = teacher_of(instrument_task, config, None, Listening())
    audio = torch.from_numpy(batch["audio"])
    found = teacher.heard({"audio": audio})["teacher"]
    assert found.shape == (4, 2, 1)
    assert not found.requires_grad
    torch.testing.assert_close(found[:, 0, 0], (audio[:, : audio.shape[1] // 2].mean(dim=1) - 0.5) * 2)
    del batch["teacher"]
    _, terms = first_step(instrument_task, config, batch, network=Listening())
    assert np.isfinite(terms["loss_distance"])


def test_without_a_name_nobody_teaches(instrument_task, tiny_config):
    assert teacher_of(instrument_task, tiny_config, None, None) is None


def test_who_hears_the_embeddings_is_not_taught_by_them(instrument_task, taught, monkeypatch):
    monkeypatch.setattr(instrument_task, "hears_embeddings", lambda config: True)
    assert teacher_of(instrument_task, taught(), None, None) is None


def test_a_head_of_other_classes_is_refused(instrument_task, taught):
    with pytest.raises(UserError, match=r"head=RUN is a classifier of 3 classes, task multi_instrument has 15"):
        teacher_of(instrument_task, taught(kd=0.5, head="RUN"), head_of(3), None)


def test_weights_of_something_else_are_no_head():
    with pytest.raises(UserError, match=r"teacher.head=RUN: expected the weights of a linear classifier"):
        linear_of({**head_of(3), "more.weight": torch.zeros(2, 2)}, "RUN")


def test_a_network_without_stages_can_not_be_taught():
    task = registry.load("task", "pianoroll")
    values = {**task.presets["smoke"], "model.width": 2, "front_end.engine": "librosa", "teacher.name": "t"}
    config = with_values(task.config_type(), values)
    with pytest.raises(UserError, match="task pianoroll has no stages"):
        Learner(task, config, CPU, teacher=Teacher(config.teacher))


def test_parts_are_found_by_what_a_config_asks_for(tiny_config):
    parts = Parts({"RUN": "head", "OTHER": "another"}, {("t", "FILE", 16_000): "network"})
    for asked, expected in (
        (TeacherConfig(name="t", kd=1.0, head="RUN"), ("head", None)),
        (TeacherConfig(name="t", kd=1.0, head="s=RUN,t=OTHER"), ("another", None)),
        (TeacherConfig(name="t", weights="FILE"), (None, "network")),
        (TeacherConfig(), (None, None)),
    ):
        assert parts.of(dataclasses.replace(tiny_config, teacher=asked)) == expected
    assert parts.put(str.upper) == Parts({"RUN": "HEAD", "OTHER": "ANOTHER"}, {("t", "FILE", 16_000): "NETWORK"})


@pytest.mark.parametrize("head", ["", "s=RUN,u=OTHER"])
def test_distillation_without_a_head_on_its_teacher_is_refused(instrument_task, taught, head):
    config = taught(kd=0.5, head=head)
    with pytest.raises(UserError, match=r"teacher\.kd=0.5 imitates .* 't': set teacher\.head"):
        teacher_of(instrument_task, config, None, None)
