"""A student and the published regularisers: what the presets say fits what the networks have."""

import pytest
import torch
from torch import nn

from tasks.clip_tagging import TASK
from timbrel.teaching.regulariser import Regulariser

SYSTEMS = ("final", "all", "cos_diff", "kd", "east_kd")
DIMENSION = 6


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_an_augmented_batch_teaches(system, precision, settings_of, batch_of):
    config = settings_of(
        "vggish", system=system, teacher__head="run", student="small", width=2, mixing__sample_rate=16_000
    )
    torch.manual_seed(0)
    model = TASK.build_model(config).train()
    regulariser = Regulariser(config.taught_by, nn.Linear(DIMENSION, 20))
    batch = TASK.augmented(batch_of(config, dimension=DIMENSION), config)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision is torch.bfloat16):
        logits, stages = model(batch["features"], stages=True)
    terms = regulariser(stages, logits.float(), batch["teacher"], batch["labels"])
    terms["regulariser"].backward()
    assert 0 < terms["regulariser"].item() < 10
    assert set(terms) - {"regulariser"} == {"kd": {"kd"}, "east_kd": {"distance", "kd"}}.get(system, {"distance"})
    learned = {name for name, values in model.named_parameters() if values.grad is not None and values.grad.any()}
    assert ("head.weight" in learned) == (system in ("kd", "east_kd"))
    assert any(name.startswith("body.stages.2") for name in learned)
    assert all(torch.isfinite(values.grad).all() for values in model.parameters() if values.grad is not None)


@pytest.mark.parametrize("preset", ["paper", "panns", "magnatagatune", "magnatagatune_panns"])
def test_published_alignments_are_of_three_stages(preset, settings_of):
    config = settings_of(preset, system="all", width=1)
    frames = 1 if preset.endswith("panns") else round(config.mixing.seconds / 0.96)
    model = TASK.build_model(config).eval()
    with torch.inference_mode():
        logits, stages = model(0.1 * torch.randn(2, config.mixing.samples), stages=True)
        labels = torch.zeros_like(logits)
        found = Regulariser(config.taught_by)(stages, logits, torch.randn(2, frames, DIMENSION), labels)
    assert found["regulariser"].isfinite()
