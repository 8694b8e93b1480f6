"""What the regulariser makes of its config: which terms, which stages, which labels."""

import math

import pytest
import torch

from timbrel.errors import UserError
from timbrel.teaching.config import TeacherConfig
from timbrel.teaching.distances import align, cosine_difference, distance_correlation, kd_loss
from timbrel.teaching.regulariser import Regulariser

CLASSES, DIMENSION = 4, 6


@pytest.fixture
def given():
    """Three stages, logits, embeddings and labels of a batch of five."""
    generator = torch.Generator().manual_seed(0)

    def values(*shape):
        return torch.randn(*shape, generator=generator)

    stages = [values(5, frames, channels).requires_grad_() for frames, channels in ((12, 3), (6, 4), (3, 8))]
    labels = (values(5, CLASSES) > 0).float()
    labels[values(5, CLASSES) > 0] = math.nan
    return stages, values(5, CLASSES).requires_grad_(), values(5, 4, DIMENSION), labels


@pytest.fixture
def head():
    torch.manual_seed(0)
    return torch.nn.Linear(DIMENSION, CLASSES)


def config(**values):
    return TeacherConfig(**{"name": "passt", "head": "teacher_lr", **values})


def test_final_is_the_last_stage(given):
    got = Regulariser(config())(*given)
    assert set(got) == {"regulariser", "distance"}
    assert got["regulariser"].item() == got["distance"].item()
    assert got["distance"].item() == distance_correlation(*align(given[0][-1], given[2])).item()
    got["regulariser"].backward()
    assert [stage.grad is not None for stage in given[0]] == [False, False, True]
    assert given[1].grad is None


@pytest.mark.parametrize("distance", ["distance_correlation", "cosine_difference"])
def test_all_stages_weigh_the_same(given, distance):
    loss = {"distance_correlation": distance_correlation, "cosine_difference": cosine_difference}[distance]
    got = Regulariser(config(stages="all", distance=distance))(*given)
    each = [loss(*align(stage, given[2])).item() for stage in given[0]]
    assert len(set(each)) == 3
    assert got["regulariser"].item() == pytest.approx(sum(each) / 3, rel=1e-6)
    got["regulariser"].backward()
    assert all(stage.grad.any() for stage in given[0])


def test_repetitions_are_by_stage(given):
    repeats = {"student_repeat": (1, 2, -1), "teacher_repeat": (3, 1, -1)}
    got = Regulariser(config(stages="all", **repeats))(*given)
    each = [
        distance_correlation(*align(stage, given[2], a, b)).item()
        for stage, a, b in zip(given[0], *repeats.values(), strict=True)
    ]
    assert got["distance"].item() == pytest.approx(sum(each) / 3, rel=1e-6)
    last = Regulariser(config(**repeats))(*given)
    assert last["distance"].item() == pytest.approx(each[-1], rel=1e-6)
    with pytest.raises(UserError, match=r"student_repeat .* for 3 stages, the network has 2"):
        Regulariser(config(**repeats))(given[0][:2], *given[1:])


@pytest.mark.parametrize("targets", ["soft", "hard"])
def test_distillation_alone_needs_no_stages_and_no_second_example(given, head, targets):
    _, logits, teacher, labels = given
    got = Regulariser(config(kd=1.0, kd_targets=targets, temperature=3.0), head)([], logits, teacher, labels)
    assert set(got) == {"regulariser", "kd"}
    imitated = head(teacher.mean(dim=1))
    expected = kd_loss(logits, imitated, ~labels.isnan(), 3.0, targets == "hard").item()
    assert got["regulariser"].item() == got["kd"].item() == pytest.approx(expected, rel=1e-6)
    got["regulariser"].backward()
    assert logits.grad.any()
    assert not logits.grad[labels.isnan()].any()
    one = Regulariser(config(kd=1.0), head)([], logits[:1], teacher[:1], torch.ones(1, CLASSES))
    assert torch.isfinite(one["kd"])


def test_a_share_of_each(given, head):
    got = Regulariser(config(kd=0.3), head)(*given)
    assert set(got) == {"regulariser", "distance", "kd"}
    assert got["regulariser"].item() == pytest.approx(0.3 * got["kd"].item() + 0.7 * got["distance"].item(), rel=1e-6)
    assert got["regulariser"].requires_grad
    assert not got["kd"].requires_grad
    assert not got["distance"].requires_grad


def test_distillation_of_a_batch_that_nobody_judged(given, head):
    stages, logits, teacher, labels = given
    got = Regulariser(config(kd=1.0), head)(stages, logits, teacher, torch.full_like(labels, math.nan))
    assert got["regulariser"].item() == 0
    got["regulariser"].backward()
    assert not logits.grad.any()


def test_the_head_learns_nothing(given, head):
    regulariser = Regulariser(config(kd=0.5), head)
    regulariser(*given)["regulariser"].backward()
    assert not [name for name, parameter in regulariser.named_parameters() if parameter.requires_grad]
    assert head.weight.grad is None


def test_under_autocast_as_without(given, head):
    stages, logits, teacher, labels = given
    given = [stage.bfloat16() for stage in stages], logits.bfloat16(), teacher, labels
    regulariser = Regulariser(config(kd=0.5), head)
    expected = regulariser([stage.float() for stage in given[0]], given[1].float(), teacher, labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = regulariser(*given)
    assert {name: value.item() for name, value in got.items()} == {name: v.item() for name, v in expected.items()}


def test_what_does_not_fit(given, head):
    stages, logits, teacher, labels = given
    with pytest.raises(UserError, match=r"batch of one .* training\.batch_size"):
        Regulariser(config())([stage[:1] for stage in stages], logits[:1], teacher[:1], labels[:1])
    taught = Regulariser(config(kd=1.0), head)
    with pytest.raises(UserError, match=r"teacher_lr is for embeddings of dimension 6, those of 'passt' have 5"):
        taught(stages, logits, teacher[..., :5], labels)
    with pytest.raises(UserError, match=r"teacher_lr knows 4 classes, the task has 3"):
        taught(stages, logits[:, :3], teacher, labels[:, :3])
    with pytest.raises(ValueError, match="expected a classifier"):
        Regulariser(config(kd=1.0))
    with pytest.raises(ValueError, match="names a teacher"):
        Regulariser(TeacherConfig())
