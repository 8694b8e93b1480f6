"""The losses against the same computed number by number, against dcor, and where they are near undefined."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from timbrel.errors import UserError
from timbrel.teaching.distances import align, cosine_difference, distance_correlation, kd_loss

LOSSES = (distance_correlation, cosine_difference)


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


# By hand: NumPy, frame by frame, pair by pair


def centred(features):
    """Doubly centred distances between the rows of one frame, ``(batch, channel)``."""
    count = len(features)
    d = np.array([[math.sqrt(sum((a - b) ** 2) + 1e-12) for b in features] for a in features])
    total = sum(d[i, j] for i in range(count) for j in range(count)) / count**2
    return np.array(
        [[d[i, j] - sum(d[i]) / count - sum(d[:, j]) / count + total for j in range(count)] for i in range(count)]
    )


def correlation_by_hand(student, teacher):
    losses = []
    for t in range(student.shape[1]):
        a, b = centred(student[:, t]), centred(teacher[:, t])
        losses.append(1 - np.mean(a * b) / math.sqrt(np.mean(a * a) * np.mean(b * b) + 1e-9))
    return float(np.mean(losses))


def cosines_by_hand(student, teacher):
    differences = []
    for t in range(student.shape[1]):
        s, e = ([row / math.sqrt(sum(row**2)) for row in each[:, t]] for each in (student, teacher))
        differences += [abs(s[i] @ s[j] - e[i] @ e[j]) for i in range(len(s)) for j in range(len(s))]
    return float(np.mean(differences))


BY_HAND = {distance_correlation: correlation_by_hand, cosine_difference: cosines_by_hand}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("shape", [(2, 1, 1, 1), (2, 3, 4, 2), (5, 4, 3, 7), (9, 2, 64, 16)])
def test_agrees_with_numpy(loss, shape):
    batch, frames, channels, dimension = shape
    student, teacher = drawn(batch, frames, channels), drawn(batch, frames, dimension, seed=1)
    expected = BY_HAND[loss](student, teacher)
    got = loss(torch.from_numpy(student), torch.from_numpy(teacher))
    assert got.dtype == torch.float64
    assert got.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    single = loss(torch.from_numpy(student).float(), torch.from_numpy(teacher).float())
    assert single.item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


@settings(max_examples=30)
@given(
    batch=st.integers(2, 12),
    frames=st.integers(1, 3),
    channels=st.integers(1, 40),
    dimension=st.integers(1, 40),
    seed=st.integers(0, 2**32),
    mixed=st.floats(0, 1),
)
def test_distance_correlation_is_that_of_dcor(batch, frames, channels, dimension, seed, mixed):
    """The squared one, frame by frame; student and teacher more or less related."""
    import dcor  # not above: it compiles as it is imported, which two test sessions that collect at once do not survive

    student = drawn(batch, frames, channels, seed=seed)
    teacher = (1 - mixed) * drawn(batch, frames, dimension, seed=seed + 1)
    teacher[:, :, 0] += mixed * student[:, :, 0] ** 2
    stats = [dcor.distance_stats_sqr(student[:, t], teacher[:, t]) for t in range(frames)]
    # The constant under the root counts beside variances that are small themselves: a teacher may all but agree.
    expected = np.mean([each.covariance_xy / math.sqrt(each.variance_x * each.variance_y + 1e-9) for each in stats])
    got = 1 - distance_correlation(torch.from_numpy(student), torch.from_numpy(teacher)).item()
    # So does the one under each distance, 1e-12, where distances are small: 3e-5 at most in 3,000 draws of such.
    assert got == pytest.approx(expected, abs=1e-4)


def test_two_examples_by_hand():
    """Distances 3 and 4; centred, [[-3, 3], [3, -3]] / 2 and the same of 4: one is the other times 4/3."""
    student, teacher = torch.tensor([[[0.0]], [[3.0]]]), torch.tensor([[[0.0, 0.0]], [[0.0, 4.0]]])
    assert distance_correlation(student, teacher).item() == pytest.approx(0, abs=1e-6)
    # The first example of both is the zero vector, whose cosines are 0, with itself too.
    assert cosine_difference(student, teacher).item() == 0
    # At right angles against 60 degrees: two of four cosines differ by a half.
    right, sixty = torch.tensor([[[1.0, 0.0]], [[0.0, 2.0]]]), torch.tensor([[[1.0, 0.0]], [[0.5, math.sqrt(0.75)]]])
    assert cosine_difference(right, sixty).item() == pytest.approx(0.25)


def test_what_the_losses_leave_aside():
    """Distances know no shift, rotation or scale; cosines no scale of an example."""
    student, teacher = torch.from_numpy(drawn(6, 3, 5)), torch.from_numpy(drawn(6, 3, 4, seed=1))
    turned = student @ torch.linalg.qr(torch.from_numpy(drawn(5, 5, seed=2))).Q
    plain = distance_correlation(student, teacher).item()
    assert distance_correlation(30 * turned - 7, teacher).item() == pytest.approx(plain, rel=1e-6)
    assert distance_correlation(student, 3 * student + 1).item() == pytest.approx(0, abs=1e-8)
    assert cosine_difference(turned * torch.rand(6, 3, 1), teacher).item() == pytest.approx(
        cosine_difference(student, teacher).item(), rel=1e-7
    )
    assert cosine_difference(student, student) == 0
    assert 0 <= plain <= 1


# Frames that meet


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    ("frames", "taught", "a", "b"),
    [(62, 10, 1, 6), (30, 30, 1, 1), (30, 30, 2, 1), (3, 2, 1, 6), (60, 1, 1, 60), (7, 4, 3, 5)],
)
def test_pairs_stand_for_repeated_tensors(loss, frames, taught, a, b):
    student, teacher = drawn(4, frames, 3), drawn(4, taught, 5, seed=1)
    repeated, also = np.repeat(student, a, axis=1), np.repeat(teacher, b, axis=1)
    shorter = min(repeated.shape[1], also.shape[1])
    expected = BY_HAND[loss](repeated[:, :shorter], also[:, :shorter])
    got = loss(*align(torch.from_numpy(student), torch.from_numpy(teacher), a, b))
    assert got.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("loss", LOSSES)
def test_means_over_time_meet(loss):
    student, teacher = drawn(4, 7, 3), drawn(4, 2, 5, seed=1)
    expected = BY_HAND[loss](student.mean(axis=1, keepdims=True), teacher.mean(axis=1, keepdims=True))
    got = loss(*align(torch.from_numpy(student), torch.from_numpy(teacher), -1, -1))
    assert got.item() == pytest.approx(expected, rel=1e-9)


@given(frames=st.integers(1, 200), taught=st.integers(1, 200))
def test_by_time_a_frame_meets_the_nearest(frames, taught):
    _, _, (mine, theirs) = align(torch.zeros(2, frames, 1), torch.zeros(2, taught, 1))
    assert mine.tolist() == list(range(frames))
    middles = (np.arange(taught) + 0.5) / taught
    for frame, met in enumerate(theirs.tolist()):
        away = np.abs(middles - (frame + 0.5) / frames)
        assert away[met] == pytest.approx(away.min(), abs=1e-12)


def test_by_time_of_one_vector_a_clip():
    assert align(torch.zeros(2, 5, 1), torch.zeros(2, 1, 8))[2][1].tolist() == [0] * 5
    assert align(torch.zeros(2, 6, 1), torch.zeros(2, 2, 8))[2][1].tolist() == [0, 0, 0, 1, 1, 1]
    assert align(torch.zeros(2, 2, 1), torch.zeros(2, 6, 8))[2][1].tolist() == [1, 4]


@pytest.mark.parametrize(("a", "b"), [(-1, 1), (2, -1), (0, 1), (1, -2)])
def test_repetitions_that_mean_nothing(a, b):
    with pytest.raises(ValueError, match="expected repetitions"):
        align(torch.zeros(2, 3, 1), torch.zeros(2, 3, 1), a, b)


# Gradients and numbers at the edge


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients(loss):
    student = torch.from_numpy(drawn(4, 3, 5)).requires_grad_()
    teacher = torch.from_numpy(drawn(4, 2, 3, seed=1))
    assert torch.autograd.gradcheck(lambda x: loss(*align(x, teacher)), student)
    assert torch.autograd.gradcheck(lambda x: loss(*align(x, teacher, 1, 2)), student)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("scale", [0.0, 1e-6, 1.0, 1e6])
@pytest.mark.parametrize("alike", ["all", "two"])
def test_examples_that_are_alike(loss, scale, alike):
    student = torch.from_numpy(drawn(5, 4, 6)).float()
    student[1:] = student[:1] if alike == "all" else torch.cat([student[:1], student[2:]])
    student = (scale * student).requires_grad_()
    got = loss(student, torch.from_numpy(drawn(5, 4, 3, seed=1)).float())
    got.backward()
    assert torch.isfinite(got)
    assert torch.isfinite(student.grad).all()
    if alike == "all" and loss is distance_correlation:
        assert got.item() == pytest.approx(1, abs=1e-2)  # uncorrelated


def test_gradient_at_equal_examples_is_no_rounding():
    """In single precision as in double, where two of the examples are one."""
    student = torch.from_numpy(drawn(6, 2, 64)) + 3
    student[1] = student[0]
    teacher = torch.from_numpy(drawn(6, 2, 8, seed=1))
    gradients = []
    for dtype in (torch.float32, torch.float64):
        leaf = student.to(dtype).requires_grad_()
        distance_correlation(leaf, teacher.to(dtype)).backward()
        gradients.append(leaf.grad.double())
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-3 * gradients[1].abs().max().item())


def test_teacher_without_differences_teaches_nothing():
    student = torch.from_numpy(drawn(4, 3, 5)).requires_grad_()
    loss = distance_correlation(student, torch.ones(4, 3, 2, dtype=torch.float64))
    loss.backward()
    assert loss.item() == 1
    assert not student.grad.any()


@pytest.mark.parametrize("loss", LOSSES)
def test_computed_in_full_precision(loss):
    """Under autocast, and of bf16: as of the same values in float32."""
    student, teacher = (torch.from_numpy(drawn(4, 3, 50, seed=seed)).bfloat16() for seed in (0, 1))
    expected = loss(student.float(), teacher.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for got in (loss(student, teacher), loss(student.float(), teacher.float())):
            assert got.dtype == torch.float32
            assert got.item() == expected.item()


@pytest.mark.parametrize("loss", LOSSES)
def test_what_cannot_be_compared(loss):
    with pytest.raises(UserError, match=r"batch of one .* training\.batch_size"):
        loss(torch.zeros(1, 3, 2), torch.zeros(1, 3, 2))
    with pytest.raises(ValueError, match="as many frames of both, got 3 and 4"):
        loss(torch.zeros(2, 3, 2), torch.zeros(2, 4, 2))
    with pytest.raises(ValueError, match="one batch"):
        loss(torch.zeros(2, 3, 2), torch.zeros(3, 3, 2))
    with pytest.raises(ValueError, match="one batch"):
        loss(torch.zeros(2, 3), torch.zeros(2, 3))


@pytest.mark.parametrize("loss", LOSSES)
def test_descent_brings_the_student_to_the_teacher(loss):
    teacher = torch.from_numpy(drawn(8, 2, 6, seed=1)).float()
    student = torch.from_numpy(drawn(8, 2, 6)).float().requires_grad_()
    optimiser = torch.optim.Adam([student], lr=0.05)
    before = loss(student, teacher).item()
    for _ in range(300):
        optimiser.zero_grad()
        loss(student, teacher).backward()
        optimiser.step()
    assert loss(student, teacher).item() < 0.1 * before


# Distillation


def kd_by_hand(student, teacher, judged, temperature):
    def sigmoid(z):
        return 1 / (1 + math.exp(-z))

    losses = []
    for zs, zt, counts in zip(student.ravel(), teacher.ravel(), judged.ravel(), strict=True):
        if counts:
            qs, qt = sigmoid(zs / temperature), sigmoid(zt / temperature)
            losses.append(qt * (zt - zs) / temperature + math.log((1 - qt + 1e-9) / (1 - qs + 1e-9)))
    return temperature**2 * sum(losses) / len(losses)


@pytest.fixture
def logits():
    judged = np.random.default_rng(2).random((6, 4)) < 0.6
    return 3 * drawn(6, 4), 3 * drawn(6, 4, seed=1), judged


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 10.0])
def test_soft_distillation_agrees_with_numpy(logits, temperature):
    expected = kd_by_hand(*logits, temperature)
    got = kd_loss(*map(torch.from_numpy, logits), temperature)
    assert got.item() == pytest.approx(expected, rel=1e-9)


def test_soft_distillation_is_the_divergence_of_bernoullis(logits):
    student, teacher, judged = map(torch.from_numpy, logits)
    of = torch.distributions.Bernoulli
    divergence = torch.distributions.kl_divergence(of(logits=teacher / 2), of(logits=student / 2))
    assert kd_loss(student, teacher, judged).item() == pytest.approx(4 * divergence[judged].mean().item(), rel=1e-6)


def test_hard_distillation_agrees_with_numpy(logits):
    student, teacher, judged = logits
    probability = 1 / (1 + np.exp(-student))
    decided = 1 / (1 + np.exp(-teacher)) > 0.5
    expected = -np.log(np.where(decided, probability, 1 - probability))[judged].mean()
    got = kd_loss(*map(torch.from_numpy, logits), 7.0, hard=True)  # whatever the temperature
    assert got.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("hard", [False, True])
def test_gradients_of_distillation(logits, hard):
    student, teacher, judged = map(torch.from_numpy, logits)
    student.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: kd_loss(z, teacher, judged, 2.0, hard), student)
    gradient = torch.autograd.grad(kd_loss(student, teacher, judged, 2.0, hard), student)[0]
    assert (gradient[judged] != 0).all()
    assert not gradient[~judged].any()


@pytest.mark.parametrize("hard", [False, True])
def test_nothing_judged(logits, hard):
    student, teacher = (torch.from_numpy(each).requires_grad_() for each in logits[:2])
    loss = kd_loss(student, teacher, torch.zeros(6, 4, dtype=torch.bool), 2.0, hard)
    assert loss.item() == 0
    loss.backward()
    assert not student.grad.any()
    assert teacher.grad is None


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("level", [30.0, 80.0, 1000.0])
def test_distillation_of_the_very_sure(hard, level):
    student = torch.tensor([[level, -level, level, -level]], requires_grad=True)
    loss = kd_loss(
        student, torch.tensor([[level, -level, -level, level]]), torch.ones(1, 4, dtype=torch.bool), 1.0, hard
    )
    loss.backward()
    assert torch.isfinite(loss)
    assert loss.item() > 1
    assert torch.isfinite(student.grad).all()


def test_distillation_in_full_precision(logits):
    student, teacher, judged = map(torch.from_numpy, logits)
    student, teacher = student.bfloat16(), teacher.bfloat16()
    expected = kd_loss(student.float(), teacher.float(), judged)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = kd_loss(student, teacher, judged)
    assert got.dtype == torch.float32
    assert got.item() == expected.item()
    torch.testing.assert_close(
        expected.item(),
        kd_by_hand(student.float().numpy(), teacher.float().numpy(), judged.numpy(), 2.0),
        rtol=1e-5,
        atol=0,
    )
    assert functional.binary_cross_entropy(torch.sigmoid(student.float()), (teacher > 0).float(), reduction="none")[
        judged
    ].mean().item() == pytest.approx(kd_loss(student, teacher, judged, hard=True).item(), rel=1e-5)
