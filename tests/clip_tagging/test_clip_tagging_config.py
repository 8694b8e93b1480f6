"""The config of task clip_tagging: published systems and teachers by name, and what it refuses."""

import pytest

from tasks.clip_tagging import TASK, ClipTaggingConfig
from tasks.clip_tagging.systems import SYSTEMS
from timbrel.config import flatten, from_json, to_json, with_values
from timbrel.errors import UserError
from timbrel.teaching.config import PUBLISHED
from timbrel.teaching.teacher import teacher_of

TAUGHT = ("final", "all", "cos_diff", "kd", "east_kd")
FRAMES = {"openmic": (62, 62, 62), "magnatagatune": (30, 15, 15)}
TAUGHT_FRAMES = {"openmic": 10, "magnatagatune": 30}
"""Of a hop of 0.96 s; PANNs have one."""


def test_the_defaults_are_those_of_the_paper():
    config = ClipTaggingConfig()
    assert (config.system, config.student, config.vocabulary) == ("final", "cp_resnet", "openmic")
    assert (config.mixing.sample_rate, config.mixing.seconds, config.front_end.bands) == (32_000, 10.0, 128)
    assert (config.lr, config.weight_decay, config.training.batch_size) == (1e-4, 1e-4, 16)
    assert config.training.epochs * config.training.batches_per_epoch == 80_000
    assert (config.training.gradient_clip, config.training.schedule) == (1.0, "plateau")
    assert (config.teacher.name, config.teacher.share) == ("passt", 0.9)
    assert flatten(with_values(config, TASK.presets["passt"])) == flatten(config)
    assert from_json(ClipTaggingConfig, to_json(config), "here") == config


@pytest.mark.parametrize(
    ("system", "distance", "stages", "kd"),
    [
        ("final", "distance_correlation", "final", 0.0),
        ("all", "distance_correlation", "all", 0.0),
        ("cos_diff", "cosine_difference", "final", 0.0),
        ("east_kd", "distance_correlation", "final", 0.3),
        ("kd", "distance_correlation", "final", 1.0),
    ],
)
def test_a_system_sets_the_loss_of_its_teacher(system, distance, stages, kd, settings_of):
    config = settings_of("vggish", system=system, teacher__head="run")
    found = config.taught_by
    assert (found.distance, found.stages, found.kd) == (distance, stages, kd)
    assert (found.name, found.share, found.normalisation) == ("vggish", 0.8, (128.0, 1 / 256))
    assert config.teacher.kd == 0  # what the user gave stays, so that another system may follow


def test_systems_may_follow_one_another_as_in_a_grid(settings_of):
    config = settings_of("openl3", system="baseline", teacher__head="run")
    assert config.taught_by.name == ""
    for system in (*TAUGHT, "baseline"):
        changed = with_values(config, {"system": system})
        assert changed == settings_of("openl3", system=system, teacher__head="run")
        assert bool(changed.taught_by.name) == (system != "baseline")


def test_custom_is_as_the_teacher_says(settings_of):
    config = settings_of(system="custom", teacher__distance="cosine_difference", teacher__stages="all")
    assert config.taught_by == config.teacher


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("vocabulary", FRAMES)
def test_frames_of_students_and_teachers_meet_as_published(vocabulary, name, settings_of):
    """Repeated, both have about as many, so that little is cut off."""
    teacher = settings_of(name if vocabulary == "openmic" else f"magnatagatune_{name}").teacher
    taught = 1 if name == "panns" else TAUGHT_FRAMES[vocabulary]
    for frames, a, b in zip(FRAMES[vocabulary], teacher.student_repeat, teacher.teacher_repeat, strict=True):
        assert min(frames * a, taught * b) >= 0.96 * max(frames * a, taught * b)
    assert teacher.share == {
        ("openmic", "vggish"): 0.8, ("openmic", "openl3"): 0.8, ("openmic", "passt"): 0.9, ("openmic", "panns"): 0.9,
    }.get((vocabulary, name), 0.6)  # fmt: skip


def test_learning_rates_of_teacher_lr(settings_of):
    assert settings_of("teacher_lr").effective_lr == 0.1
    for preset, rate in (("vggish", 0.2), ("openl3", 0.1), ("magnatagatune_passt", 0.2), ("magnatagatune", 0.2)):
        assert settings_of(preset, **{"system": "teacher_lr", "training__optimizer": "sgd"}).effective_lr == rate
    assert settings_of("vggish", system="teacher_lr").effective_lr == 0.01  # Adam
    assert settings_of("teacher_lr", linear_lr=0.5, lr=3.0).effective_lr == 0.5
    assert settings_of("small", lr=0.25).effective_lr == 0.25


def test_magnatagatune_is_not_augmented(settings_of):
    config = settings_of("magnatagatune")
    assert config.augmentation.idle
    assert not ClipTaggingConfig().augmentation.idle
    assert (config.mixing.sample_rate, config.mixing.seconds, config.front_end.bands) == (16_000, 29.0, 96)
    assert 99_000 < config.training.epochs * config.training.batches_per_epoch <= 100_000


def test_every_system_is_a_preset():
    assert set(SYSTEMS) - {"custom"} <= set(TASK.presets)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"system": "cos_dif"}, "system=cos_dif"),
        ({"system": "all", "teacher.distance": "cosine_difference"}, "teacher.distance=distance_correlation"),
        ({"system": "final", "teacher.kd": 0.3, "teacher.head": "run"}, "system=final has teacher.kd=0.0, not 0.3"),
        ({"teacher.name": ""}, "system=final needs a teacher"),
        ({"system": "teacher_lr", "teacher.name": ""}, "hears a teacher's embeddings"),
        ({"teacher.weight": 1.5}, "teacher.weight"),
        ({"mixing.channels": 2}, "must be 1"),
        ({"mixing.seconds": 0.1}, "student=cp_resnet needs 15 frames"),
        ({"student": "mobile_fcn", "front_end.bands": 100}, "multiple of 32"),
        ({"front_end.window": 1025}, "must not exceed fft"),
        ({"front_end.fft": 1001}, "must be even"),
        ({"augmentation.high_jitter_hz": 16_000}, "leave nothing"),
        ({"augmentation.band_mask": 129}, "must not exceed front_end.bands"),
        ({"augmentation.mixup": -1}, "augmentation.mixup"),
        ({"width": 0}, "width"),
    ],
)
def test_what_is_refused(values, message):
    with pytest.raises(UserError, match=message):
        with_values(ClipTaggingConfig(), values)


@pytest.mark.parametrize("system", ["kd", "east_kd"])
def test_distillation_needs_a_head_before_it_runs(system, settings_of):
    with pytest.raises(UserError, match=r"imitates .* 'passt': set teacher\.head"):
        teacher_of(TASK, settings_of(system=system), None, None)
