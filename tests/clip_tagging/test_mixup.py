"""Mixup and the augmentation of a batch: what is mixed, what is judged afterwards, and where chance comes from."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tasks.clip_tagging import TASK
from tasks.clip_tagging.augmentation import mixed, mixup_shares
from tasks.clip_tagging.front_end import KaldiLogMel

NAN = float("nan")
LABELS = arrays.arrays(np.float32, (4, 5), elements=st.sampled_from([0.0, 1.0, NAN]))


def test_two_examples_by_hand():
    batch = {
        "features": torch.tensor([[[2.0]], [[10.0]]]),
        "labels": torch.tensor([[1.0, 0.0, NAN, 1.0], [0.0, NAN, NAN, 1.0]]),
        "teacher": torch.tensor([[[0.0, 4.0]], [[8.0, 0.0]]]),
        "audio": torch.zeros(2, 3),
    }
    found = mixed(batch, torch.tensor([1, 0]), torch.tensor([0.75, 0.5]))
    np.testing.assert_allclose(found["features"].flatten(), [0.75 * 2 + 0.25 * 10, 0.5 * 10 + 0.5 * 2])
    np.testing.assert_allclose(found["teacher"][:, 0], [[2.0, 3.0], [4.0, 2.0]])
    np.testing.assert_allclose(found["labels"], [[0.75, 0.0, NAN, 1.0], [0.5, 0.0, NAN, 1.0]])
    assert found["audio"] is batch["audio"]


@given(labels=LABELS, order=st.permutations(range(4)), share=st.floats(0.5, 1, width=32))
def test_labels_as_the_authors_mix_them(labels, order, share):
    """They have 0 for what nobody judged, and a mask, which is that of either."""
    batch = {"features": torch.zeros(4, 2, 3), "labels": torch.from_numpy(labels)}
    found = mixed(batch, torch.tensor(order), torch.full((4,), share))["labels"].numpy()
    values, mask = np.where(np.isnan(labels), 0, labels), ~np.isnan(labels)
    np.testing.assert_array_equal(~np.isnan(found), mask | mask[order])
    expected = share * values + (1 - share) * values[order]
    np.testing.assert_allclose(found[~np.isnan(found)], expected[mask | mask[order]], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("partners", [[0, 1, 2, 3], [3, 2, 1, 0]])
def test_a_whole_share_or_oneself_for_partner_changes_no_label(partners, settings_of, batch_of):
    batch = {**batch_of(settings_of("small")), "features": torch.rand(4, 2, 3)}
    share = 1.0 if partners[0] else 0.6
    found = mixed(batch, torch.tensor(partners), torch.full((4,), share))
    judged = ~torch.isnan(batch["labels"])
    assert torch.allclose(found["labels"][judged], batch["labels"][judged])
    assert torch.allclose(found["features"], batch["features"])
    assert torch.allclose(found["teacher"], batch["teacher"])


def test_shares_are_the_greater_part_of_a_beta_distribution():
    torch.manual_seed(0)
    shares = mixup_shares(20_000, 0.3).numpy()
    assert shares.min() >= 0.5
    assert shares.max() <= 1
    reference = np.random.default_rng(0).beta(0.3, 0.3, 20_000)
    reference = np.maximum(reference, 1 - reference)
    quantiles = np.linspace(0.05, 0.95, 19)
    np.testing.assert_allclose(np.quantile(shares, quantiles), np.quantile(reference, quantiles), atol=0.01)


def test_spectrograms_are_mixed_not_sounds(settings_of, batch_of):
    nothing_else = {
        f"augmentation__{name}": 0 for name in ("low_jitter_hz", "high_jitter_hz", "band_mask", "frame_mask")
    }
    config = settings_of("small", **nothing_else, augmentation__mixup=0.3)
    batch = batch_of(config)
    torch.manual_seed(3)
    found = TASK.augmented(batch, config)
    torch.manual_seed(3)
    shares = mixup_shares(4, 0.3)
    partners = torch.randperm(4)
    plain = KaldiLogMel(config.front_end, config.mixing.sample_rate)(batch["audio"])
    own = shares[:, None, None]
    assert torch.allclose(found["features"], own * plain + (1 - own) * plain[partners], atol=1e-5)
    assert set(found) == {*batch, "features"}


def test_chance_is_that_of_the_global_generator(settings_of, batch_of):
    config = settings_of("paper", mixing__seconds=1.0, augmentation__frame_mask=20)
    batch = batch_of(config)

    def heard(seed):
        torch.manual_seed(seed)
        return TASK.augmented(batch, config)

    first, again, other = heard(1), heard(1), heard(2)
    for name in ("features", "labels", "teacher"):
        assert torch.equal(torch.nan_to_num(first[name], -1), torch.nan_to_num(again[name], -1))
        assert not torch.equal(torch.nan_to_num(first[name], -1), torch.nan_to_num(other[name], -1))
    assert first["features"].shape == (4, 128, 100)


def test_the_batch_itself_stays_as_it_was(settings_of, batch_of):
    config = settings_of("paper", mixing__seconds=1.0, augmentation__frame_mask=20)
    batch = batch_of(config)
    copies = {name: values.clone() for name, values in batch.items()}
    TASK.augmented(batch, config)
    assert set(batch) == set(copies)
    assert all(torch.equal(torch.nan_to_num(batch[name]), torch.nan_to_num(copies[name])) for name in batch)


@pytest.mark.parametrize("preset", ["magnatagatune", "small", "teacher_lr"])
def test_nothing_is_augmented_where_nothing_was_published(preset, settings_of):
    batch = {"labels": torch.zeros(2, 20), "features": torch.zeros(2, 10, 6)}
    assert TASK.augmented(batch, settings_of(preset)) is batch
