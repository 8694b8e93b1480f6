"""The installed tasks, sources and studies: found by name, and fit for their configs."""

import dataclasses

import numpy as np
import pytest
from ray import tune

from timbrel import registry
from timbrel.config import field_types, flatten, short, spread_branches, with_values
from timbrel.errors import UserError
from timbrel.study import EMBEDDINGS, Study

STUDIES = registry.names("study")


def base(study):
    task = registry.load("task", study.task)
    return with_values(task.config_type(), study.fixed)


def test_what_is_installed():
    assert registry.names("task") == ["attention_mil", "clip_tagging", "multi_instrument", "pianoroll", "tagging"]
    public = ["magnatagatune", "medleydb", "mixing_secrets", "mtg_jamendo", "musdb18hq", "openmic", "slakh"]
    assert registry.names("source") == sorted(
        ["house_band", "midi", "midi_audio_pairs", "stems", "weak_clips", *public]
    )
    assert {"transfer_modes", "learning_rates"} <= set(STUDIES)


@pytest.mark.parametrize("kind", ["task", "source", "study"])
def test_names_and_summaries(kind):
    for name in registry.names(kind):
        loaded = registry.load(kind, name)
        assert loaded.name == name
        assert 10 < len(loaded.summary) < 120
        assert "\n" not in loaded.summary


@pytest.mark.parametrize(
    ("kind", "name", "nearest"),
    [
        ("task", "multi_instruments", "multi_instrument"),
        ("source", "house-band", "house_band"),
        ("study", "transfer_mode", "transfer_modes"),
    ],
)
def test_an_unknown_name_suggests_the_nearest(kind, name, nearest):
    with pytest.raises(UserError, match=f"unknown {kind} '{name}': did you mean '{nearest}'"):
        registry.load(kind, name)
    with pytest.raises(UserError, match="choose one of"):
        registry.load(kind, "$")


@pytest.mark.parametrize("name", registry.names("task"))
def test_presets(name):
    task = registry.load("task", name)
    assert {"paper", "small", "smoke"} <= set(task.presets)
    assert task.presets["paper"] == {}
    for values in task.presets.values():
        config = with_values(task.config_type(), values)
        for path, value in values.items():
            assert flatten(config)[path] == value
    work = [flatten(with_values(task.config_type(), task.presets[preset])) for preset in ("paper", "small", "smoke")]
    mixtures = [values["training.epochs"] * values["training.batches_per_epoch"] for values in work]
    assert mixtures == sorted(mixtures, reverse=True)


@pytest.mark.parametrize("name", registry.names("task"))
def test_labels_of_a_task(name):
    task = registry.load("task", name)
    config = task.config_type()
    classes = task.classes(config)
    assert len(set(classes)) == len(classes)
    programs = np.array([0, 40, 128, -1], dtype=np.int16)
    labels = task.stem_labels(["piano", "violin", "drums", "violin"], programs, config)
    assert labels.shape == (4, len(classes))
    assert labels.dtype == bool
    assert labels[:2].any(axis=1).all()  # drums are of no class where notes have pitches
    assert task.stem_labels([], programs[:0], config).shape == (0, len(classes))


FIRST = [
    (study.pretraining.task, study.task) for name in STUDIES if (study := registry.load("study", name)).pretraining
]
PRETRAINED = sorted({task for first, task in FIRST if first == "tagging"})


@pytest.mark.parametrize("name", PRETRAINED)
def test_small_presets_train_on_the_pretraining_network(name):
    """A study's trials start from a tagging run of the same preset: both must build the same backbone."""
    tagging, task = registry.load("task", "tagging"), registry.load("task", name)
    for preset in ("small", "smoke"):
        flats = [flatten(with_values(each.config_type(), each.presets[preset])) for each in (tagging, task)]
        for path in ("mixing.sample_rate", "mixing.seconds", "model.width", "front_end.hop", "front_end.bands"):
            assert flats[0][path] == flats[1][path], path


@pytest.mark.parametrize("name", STUDIES)
def test_studies_fit_their_task(name):
    study = registry.load("study", name)
    known = field_types(registry.load("task", study.task).config_type)
    varied = {path for values in Study.variants(study.space) for path in spread_branches(values)}
    assert varied | set(study.fixed) <= set(known)
    assert not set(study.space) & set(study.fixed)
    study.check(base(study))
    assert len(study.why) > 50
    assert study.samples > 0 or all(domain == EMBEDDINGS or "grid_search" in domain for domain in study.space.values())
    assert study.mode in ("min", "max")
    if study.pretraining:
        assert study.pretraining.target in known
        first = field_types(registry.load("task", study.pretraining.task).config_type)
        values = study.pretraining.config_values(flatten(base(study)))
        assert set(values) | set(study.pretraining.fixed) <= set(first)
        assert {"mixing.sample_rate", "mixing.seconds", "data.datasets"} <= set(values)
        if study.pretraining.task == "tagging":
            assert values["backbone"] == "short_chunk_cnn"
            assert {"front_end.hop", "model.width"} <= set(values)


def test_teachers_heads_hear_what_the_students_are_taught_by():
    for name in ("east_table", "teacher_regularisation"):
        study = registry.load("study", name)
        task = registry.load("task", study.task)
        config = with_values(
            task.config_type(), {**task.presets["small"], "teacher.name": "vggish", "teacher.offset": 100.0}
        )
        plan = study.pretraining
        first = with_values(config, {**plan.config_values(flatten(config)), **plan.fixed})
        assert task.hears_embeddings(first)
        assert first.teacher == config.teacher
        assert first.data == config.data


@pytest.mark.parametrize("name", STUDIES)
def test_studies_go_with_every_preset(name):
    study = registry.load("study", name)
    task = registry.load("task", study.task)
    for preset in task.presets.values():
        study.check(with_values(task.config_type(), {**preset, **study.fixed}))


def test_transfer_modes_is_table_1():
    study = registry.load("study", "transfer_modes")
    modes = [values["transfer.mode"] for values in Study.variants(study.space)]
    assert sorted(modes) == ["finetune", "frozen", "scratch"]
    assert study.fixed == {"mixing.p_musical": 0.6}


def make(**space):
    space = {path.replace("__", "."): values for path, values in space.items()}
    return Study(name="s", summary="", why="", task="multi_instrument", space=space)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"mixing__p_musicl": tune.grid_search([0, 1])}, r"'mixing\.p_musicl': did you mean 'mixing\.p_musical'"),
        ({"mixing__p_musical": tune.grid_search([0.5, 1.5])}, r"mixing\.p_musical=1\.5"),
        ({"mixing__p_musical": tune.uniform(0.99, 9.0)}, r"mixing\.p_musical="),
        ({"transfer__mode": tune.choice(["scratch", "thawed"])}, r"transfer\.mode=thawed"),
    ],
)
def test_a_space_that_does_not_fit_is_refused(space, message):
    study = make(**space)
    with pytest.raises(UserError, match=message):
        study.check(base(study))


def test_a_value_that_only_some_combinations_allow_is_found():
    study = make(mixing__min_sources=tune.grid_search([2, 4]), mixing__max_sources=tune.grid_search([3, 5]))
    with pytest.raises(UserError, match=r"min_sources \(4\) must not exceed max_sources \(3\)"):
        study.check(base(study))


def test_variants_of_a_grid():
    study = make(seed=tune.grid_search([0, 1]), transfer__mode=tune.grid_search(["scratch", "frozen"]))
    variants = Study.variants({**study.space, "mixing.p_musical": tune.uniform(0, 1)}, seed=3)
    assert len({(values["seed"], values["transfer.mode"]) for values in variants}) == len(variants) == 4
    assert variants == Study.variants({**study.space, "mixing.p_musical": tune.uniform(0, 1)}, seed=3)
    assert Study.variants({}) == [{}]


# Over the embeddings of a library


def test_a_study_is_over_the_embeddings_that_there_are():
    study = make(teacher__name=EMBEDDINGS, seed=tune.grid_search([0, 1]))
    assert study.describe("teacher.name") == "each of the embeddings that the library has"
    assert study.over_embeddings == ["teacher.name"]
    found = study.of_embeddings(["crnn", "vggish"], drawn=False)
    assert found.over_embeddings == []
    assert found.values("teacher.name") == ["crnn", "vggish"]
    assert len(Study.variants(found.space)) == 4
    drawn = study.of_embeddings(["crnn", "vggish"], drawn=True)
    assert drawn.values("teacher.name") == ["crnn", "vggish"]
    assert {Study.variants(drawn.space, seed)[0]["teacher.name"] for seed in range(20)} == {"crnn", "vggish"}
    assert study.without(["teacher.name"]).over_embeddings == []


@pytest.mark.parametrize(("name", "systems"), [("east_table", 7), ("teacher_regularisation", 0)])
def test_studies_of_teachers_are_over_the_librarys(name, systems):
    study = registry.load("study", name)
    assert study.over_embeddings == ["teacher.name"]
    found = study.of_embeddings(["passt", "vggish"], drawn=study.samples > 0)
    for preset in ("paper", "small", "vggish"):
        task = registry.load("task", study.task)
        base = with_values(task.config_type(), {**task.presets[preset], **study.fixed})
        found.check(base)
        for values in Study.variants(found.space) if systems else []:
            teacher = with_values(base, values).teacher
            published = {"passt": (0.9, (0.0, 1.0)), "vggish": (0.8, (128.0, 1 / 256))}[teacher.name]
            assert (teacher.share, teacher.normalisation) == published
            assert teacher.student_repeat == teacher.teacher_repeat == ()
    assert len(Study.variants(found.space)) == (2 * systems or 1)


# Some combinations of a branch's fields instead of all


def effects_study(*values, **more):
    return make(mixing__effects__gain=tune.grid_search(list(values)), **more)


def test_a_grid_over_a_branch_has_the_combinations_it_names():
    study = effects_study({"low": -3.0, "high": 3.0}, {"low": -9.0, "high": 9.0}, seed=tune.grid_search([0, 1]))
    study.check(base(study))
    made = [with_values(base(study), values) for values in Study.variants(study.space)]
    found = {(config.seed, config.mixing.effects.gain.low, config.mixing.effects.gain.high) for config in made}
    assert found == {(seed, -width, width) for seed in (0, 1) for width in (3.0, 9.0)}
    assert {config.mixing.effects.gain.p for config in made} == {0.5}  # what it does not name stays


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"lo": 1.0}, r"'mixing\.effects\.gain\.lo': did you mean 'mixing\.effects\.gain\.low'"),
        ({"low": 7.0}, r"mixing\.effects\.gain: low \(7"),
        ({"p": 2.0}, r"mixing\.effects\.gain\.p=2"),
        ({}, "unknown config field 'mixing.effects.gain'"),
    ],
)
def test_a_branch_that_does_not_fit_is_refused(value, message):
    study = effects_study({"p": 0.0}, value)
    with pytest.raises(UserError, match=message):
        study.check(base(study))


def test_a_field_that_is_fixed_and_varied_is_refused():
    study = dataclasses.replace(effects_study({"p": 0.0}), fixed={"mixing.effects.gain.p": 1.0})
    with pytest.raises(UserError, match=r"'mixing\.effects\.gain\.p' is given twice"):
        study.check(registry.load("task", study.task).config_type())


def test_what_the_user_gives_is_no_longer_varied():
    study = make(seed=tune.grid_search([0, 1]), mixing__p_musical=tune.grid_search([0, 1]))
    assert set(study.without(["seed"]).space) == {"mixing.p_musical"}
    assert set(study.without(["training.epochs"]).space) == {"seed", "mixing.p_musical"}
    assert set(study.space) == {"seed", "mixing.p_musical"}


def test_a_field_that_is_varied_with_others_can_not_be_given():
    study = effects_study({"low": -3.0, "high": 3.0}, seed=tune.grid_search([0, 1]))
    with pytest.raises(UserError, match=r"varies mixing\.effects\.gain\.p together with all of mixing\.effects\.gain:"):
        study.without(["mixing.effects.gain.p"])
    # Its neighbours can be, those whose names only begin alike too.
    assert set(study.without(["seed", "mixing.effects.peaking.p"]).space) == {"mixing.effects.gain"}
    ablation = registry.load("study", "multitask_ablation")
    with pytest.raises(UserError, match=r"leave it out, or train single runs with `timbrel train pianoroll`"):
        ablation.without(["loss.roll"])
    assert ablation.without(["loss_", "lr"]).space == ablation.space


def test_a_study_says_what_it_varies():
    study = effects_study(
        {"low": -3.0, "high": 3.0}, {"p": 0.0}, seed=tune.grid_search([0, 1]), mixing__p_musical=tune.uniform(0, 0.5)
    )
    assert study.describe("mixing.effects.gain") == "each of low=-3 high=3, p=0"
    assert study.describe("seed") == "each of 0, 1"
    assert study.describe("mixing.p_musical") == "uniform (0, 0.5)"
    assert short({"a": {"b": 1 / 3, "c": "x"}, "d": True}) == "a=b=0.333 c=x d=True"


def test_the_ablation_is_table_2():
    study = registry.load("study", "multitask_ablation")
    made = [with_values(base(study), values).loss for values in Study.variants(study.space)]
    weights = [(loss.roll, loss.instrument, loss.pitch) for loss in made]
    assert weights == [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)]
