"""Task tagging: labels that are said of whole songs, where training starts from, and what starts from it."""

import dataclasses
import math
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from tasks.tagging.task import tags_of
from timbrel import metrics, registry
from timbrel.config import with_values
from timbrel.errors import UserError
from timbrel.launch import resolve_weights
from timbrel.library import Library
from timbrel.listen.example import make_example
from timbrel.logged_model import save_logged_model
from timbrel.mixing.index import build_index, missing_examples
from timbrel.mixing.plan import plan_mixture
from timbrel.mixing.pool import Stream, mix
from timbrel.mixing.recipe import NO_EFFECTS, Recipe
from timbrel.mixing.render import render_example
from timbrel.prepare import prepare
from timbrel.sources import Found, Performance, Song, Stem
from timbrel.tags import judged_songs
from timbrel.tracking import Tracker
from timbrel.trained import TrainedModel
from timbrel.training.loop import Learner

RATE_HZ = 16_000
TASK = registry.load("task", "tagging")
JAMENDO = tags_of("mtg_jamendo")
LOW, MIDDLE, HIGH = "genre---ambient", "instrument---piano", "genre---rock"
PITCHES_HZ = {LOW: 1000, MIDDLE: 2500, HIGH: 5000}
CPU = torch.device("cpu")
TINY = {
    "tags": "mtg_jamendo",
    "mixing.sample_rate": RATE_HZ,
    "mixing.seconds": 1.1,
    "front_end.hop": 128,
    "model.width": 2,
    "training.schedule": "decay",
    "training.precision": "float32",
    "training.batch_size": 4,
}


def config_of(**values):
    return with_values(TASK.config_type(), TINY | {path.replace("__", "."): value for path, value in values.items()})


@dataclass(frozen=True)
class Options:
    """A source needs some."""


class Tagged:
    """A source that hands out given songs, judged on given tags."""

    summary, needs_path, options_type = "for tests", False, Options

    def __init__(self, songs, vocabulary=JAMENDO, name="tagged"):
        self.songs, self.vocabulary, self.name = songs, vocabulary, name

    def find(self, path, options):
        return Found(self.songs, len(self.songs), vocabulary=self.vocabulary)


def song(name, tags, audio=None, split=None, instrument="mix"):
    if audio is None:
        time_s = np.arange(3 * RATE_HZ) / RATE_HZ
        pitches = [PITCHES_HZ[tag] for tag in tags or () if tag in PITCHES_HZ]
        audio = 0.2 * sum((np.sin(2 * np.pi * hz * time_s) for hz in pitches), start=0.05 * np.sin(60 * time_s))
    audio = np.atleast_2d(audio).astype(np.float32)
    return Song(name, (Stem("mix", instrument, lambda: Performance(audio, RATE_HZ)),), split=split, tags=tags)


def library_of(root, *songs, **facts):
    prepare(Tagged(songs, **facts), None, root, Options())
    return Library.open(root)


def tags_said(number):
    """Of a song of ``library``."""
    return {"instrument---drums", *list(PITCHES_HZ)[number % 4 : number % 4 + 1]}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """Eight songs a split: each with one of three tags or none, and with drums, which aren't heard."""
    songs = [
        song(f"{split} {number}", dict.fromkeys(tags_said(number), 1.0), split=split)
        for split in ("train", "valid", "test")
        for number in range(8)
    ]
    return library_of(tmp_path_factory.mktemp("library"), *songs)


def names(labels):
    return {tag for tag, there in zip(JAMENDO, labels, strict=True) if there}


# Labels


def test_labels_are_the_tags_of_the_song_in_the_order_of_the_outputs(library):
    index = build_index(library, "train", TASK, config_of())
    assert index.labels.shape == (8, 50)
    assert index.whole_songs
    for row, name in enumerate(index.songs.to_pylist()):
        assert names(index.labels[row]) == tags_said(int(name.split()[1]))


def test_values_from_one_half_on_are_there_and_songs_without_any_tag_are_left_out(tmp_path):
    library = library_of(
        tmp_path,
        song("sure", {LOW: 1.0}, split="train"),
        song("likely", {LOW: 0.5, HIGH: 0.49}, split="train"),
        song("unlikely", {LOW: 0.4}, split="train"),
        song("none", {}, split="train"),
    )
    index = build_index(library, "train", TASK, config_of())
    assert dict(zip(index.songs.to_pylist(), map(names, index.labels), strict=True)) == {"sure": {LOW}, "likely": {LOW}}


def test_what_is_said_of_a_song(tmp_path):
    library = library_of(tmp_path, song("one", {"a": 0.25, "c": 1.0}), song("two", None), vocabulary=("a", "b"))
    one, two = judged_songs(library, [("tagged", "one"), ("tagged", "two")])
    assert (one.value("a"), one.value("b"), one.value("c")) == (0.25, 0.0, 1.0)
    assert math.isnan(one.value("d"))
    assert (two.value("a"), two.value("b")) == (0.0, 0.0)
    assert math.isnan(two.value("c"))


def test_tags_change_nothing_for_a_task_that_does_not_ask(tmp_path, instrument_task):
    library = library_of(tmp_path, song("one", {LOW: 1.0}, split="train", instrument="piano"))
    index = build_index(library, "train", instrument_task, instrument_task.config_type())
    assert not index.whole_songs
    assert index.labels.sum() == 2  # piano and key


def test_a_tag_counts_whatever_part_is_heard(tmp_path):
    audio = np.zeros(20 * RATE_HZ)
    audio[: RATE_HZ // 4] = 0.5 * np.sin(np.arange(RATE_HZ // 4) / 5)
    library = library_of(tmp_path, song("brief", {LOW: 1.0, HIGH: 1.0}, audio, split="train"))
    config = config_of()
    index = build_index(library, "train", TASK, config)
    silent, starts = 0, set()
    for number in range(20):
        plan = plan_mixture(index, config.mixing, 0, "train", number)
        audio, labels, _ = render_example(plan, index, config.mixing)
        assert names(labels) == {LOW, HIGH}
        silent += not audio.any()
        starts.add(plan.sources[0].start_s)
    assert silent > 10
    assert len(starts) == 20
    example = make_example(index, config.mixing, 0, "train", 0, JAMENDO)
    assert set(example.facts["labels"]) == {LOW, HIGH}
    assert example.facts["sources"][0]["counts"]


def test_no_seconds_to_sound_for_is_always(tmp_path, write_stems, prepare_stems, instrument_task):
    audio = np.zeros(20 * RATE_HZ)
    audio[: RATE_HZ // 4] = 0.5 * np.sin(np.arange(RATE_HZ // 4) / 5)
    prepare_stems(write_stems(tmp_path / "in", {"song": {"piano": audio}}), tmp_path / "library")
    index = build_index(Library.open(tmp_path / "library"), "train", instrument_task, instrument_task.config_type())
    recipe = Recipe(sample_rate=RATE_HZ, seconds=1.0, p_musical=1.0, effects=NO_EFFECTS)
    counts = {
        active_seconds: sum(
            int(render_example(plan_mixture(index, changed, 0, "train", number), index, changed)[1].any())
            for number in range(20)
        )
        for active_seconds in (0.0, 0.1)
        for changed in [dataclasses.replace(recipe, active_seconds=active_seconds)]
    }
    assert counts[0.0] == 20
    assert counts[0.1] < 5


def test_classes_are_balanced_by_tags_too(library):
    config = config_of(mixing__class_balance=1.0)
    index = build_index(library, "train", TASK, config)
    batch = mix(Stream(index, config.mixing, 0, "train"), index, range(8))
    for labels, row in zip(batch["labels"], batch["song"], strict=True):
        np.testing.assert_array_equal(labels, index.labels[row])


# What is refused


def test_a_library_without_tags_is_refused(band_library):
    with pytest.raises(UserError, match="the stems of a library have no tags of mtg_jamendo: learn tags=general_midi"):
        build_index(Library.open(band_library), "train", TASK, config_of())


def test_other_tags_are_refused_by_data_set_song_and_tag(library, tmp_path):
    with pytest.raises(UserError, match=r"no tags of magnatagatune: .*'tagged' has none"):
        build_index(library, "train", TASK, config_of(tags="magnatagatune"))
    partly = library_of(tmp_path, song("odd one", {LOW: 1.0}, split="train"), vocabulary=JAMENDO[:-1], name="partly")
    with pytest.raises(UserError, match=rf"'partly' were not judged on the tag '{JAMENDO[-1]}' .*'odd one'.*datasets"):
        build_index(partly, "train", TASK, config_of())


def test_data_sets_with_tags_are_chosen_by_name(tmp_path):
    library_of(tmp_path, song("tagged song", {LOW: 1.0}, split="train"))
    library = library_of(tmp_path, song("other song", None, split="train"), vocabulary=(), name="other")
    with pytest.raises(UserError, match=r"name by data\.datasets .*'other' has none"):
        build_index(library, "train", TASK, config_of())
    index = build_index(library, "train", TASK, config_of(data__datasets=("tagged",)))
    assert index.songs.to_pylist() == ["tagged song"]


def test_a_split_without_tags_and_tags_without_a_song_are_said(library, tmp_path):
    nothing = library_of(tmp_path, song("none", {}, split="train"))
    with pytest.raises(UserError, match=r"has a tag that task 'tagging' knows: .*`vocabulary`"):
        build_index(nothing, "train", TASK, config_of())
    lines = missing_examples(library, TASK, config_of())
    assert lines[0].startswith("no training song has: genre---alternative, ")
    assert "of 50 classes" in lines[0]


# Networks, and where they start from


@pytest.fixture(scope="module")
def seeded():
    """Make the weights of a published network, drawn from a seed, in its authors' layout."""
    spec = spec_from_file_location("make_expected", Path(__file__).parent / "published/make_expected.py")
    independent = module_from_spec(spec)
    spec.loader.exec_module(independent)

    def make(net):
        weights = {name: torch.from_numpy(values) for name, values in independent.seeded_weights(net).items()}
        counters = [name.replace("running_mean", "num_batches_tracked") for name in weights if "running_mean" in name]
        return weights | dict.fromkeys(counters, torch.tensor(7))

    return make


def test_the_papers_network_has_its_own_classifier_on_top():
    model = TASK.build_model(config_of())
    assert [type(layer).__name__ for layer in model.head] == ["Linear", "BatchNorm1d", "ReLU", "Dropout", "Linear"]
    assert model.head[4].out_features == 50
    assert model(torch.zeros(2, config_of().mixing.samples)).shape == (2, 50)


@pytest.mark.parametrize("backbone", ["short_chunk_cnn", "crnn", "crnn_conv", "musicnn"])
def test_any_backbone_learns_tags(library, backbone):
    config = config_of(
        backbone=backbone, mixing__seconds=1.6, front_end__hop=256 if backbone != "short_chunk_cnn" else 128
    )
    index = build_index(library, "train", TASK, config)
    learner = Learner(TASK, config, CPU)
    batch = mix(Stream(index, config.mixing, 0, "train"), index, range(4))
    assert math.isfinite(learner.train_epoch([batch])["loss"])
    assert learner.predict(batch).scores.shape == (4, 50)


@pytest.mark.parametrize(("backbone", "seconds"), [("crnn", 4.0), ("musicnn", 3.0), ("fcn", 20.8)])
def test_training_goes_on_from_a_published_tagger(seeded, backbone, seconds):
    values = {"backbone": backbone, "mixing__seconds": seconds, "front_end__hop": 256, "start_from": "tagger.pth"}
    config = config_of(**values, start_head=True)
    assert TASK.pretrained(config) == "tagger.pth"
    started = Learner(TASK, config, CPU, seeded(backbone)).model.eval()
    _, published = TASK.from_weights(seeded(backbone), "tagger.pth", {"tags": "mtg_jamendo", "mixing.seconds": seconds})
    audio = torch.from_numpy(np.random.default_rng(0).normal(scale=0.1, size=(2, round(seconds * RATE_HZ)))).float()
    with torch.inference_mode():
        torch.testing.assert_close(started(audio), published(audio))
        anew = Learner(TASK, config_of(**values), CPU, seeded(backbone)).model.eval()
        torch.testing.assert_close(anew.embed(audio), published.embed(audio))
        assert not torch.allclose(anew(audio), published(audio))


def test_without_a_start_training_starts_from_scratch():
    assert TASK.pretrained(config_of()) is None


def test_a_start_that_does_not_fit_is_refused(seeded):
    config = config_of(start_from="tagger.pth")
    model = TASK.build_model(config)
    with pytest.raises(UserError, match=r"weights of tagger\.pth .* net 'crnn'.*task tagging: backbone"):
        TASK.load_pretrained(model, config, seeded("crnn"))
    other = TASK.build_model(config_of(tags="general_midi")).state_dict()
    TASK.load_pretrained(model, config, other)  # its classifier is left where it was
    with pytest.raises(UserError, match=r"tagger\.pth .*'head\.4\.weight' has shape \(129, 8\)"):
        TASK.load_pretrained(model, config_of(start_from="tagger.pth", start_head=True), other)


# Learning, and what starts from it


@pytest.fixture(scope="module")
def learned(library):
    """A network that has learned three of the tags, and what it says of the test songs."""
    config = config_of(model__width=4, lr=3e-3, training__decay=1.0, training__batch_size=16)
    index = build_index(library, "train", TASK, config)
    stream = Stream(index, config.mixing, 0, "train")
    batches = [mix(stream, index, range(first, first + 16)) for first in range(0, 64, 16)]
    sets = {}
    for split in ("valid", "test"):
        of_split = build_index(library, split, TASK, config)
        sets[split] = mix(Stream(of_split, config.mixing, 0, split), of_split, range(32))
        sets[split]["song"] = np.array(of_split.songs.to_pylist())[sets[split]["song"]]
    learner = Learner(TASK, config, CPU)
    for _ in range(12):
        learner.train_epoch(batches)
        learner.validate(sets["valid"])
    thresholds, figures, outputs = learner.finish(sets["valid"], sets["test"])
    return TrainedModel(TASK, config, thresholds, learner.best_weights), figures, outputs["test"]


def test_tags_are_learned(learned):
    _, figures, _ = learned
    for tag in PITCHES_HZ:
        assert figures[f"roc_auc/{tag}"] > 0.9, tag


def test_macro_figures_are_over_the_tags_that_can_be_ranked(learned):
    """Of 50 tags, 46 have no positive example and one has no negative."""
    _, figures, outputs = learned
    there = [JAMENDO.index(tag) for tag in PITCHES_HZ]
    truth, scores = outputs.labels[:, there], outputs.scores[:, there]
    assert figures["roc_auc_macro"] == pytest.approx(roc_auc_score(truth, scores, average="macro"))
    assert figures["pr_auc_macro"] == pytest.approx(average_precision_score(truth, scores, average="macro"))
    drums, absent = "instrument---drums", "genre---techno"
    assert (figures[f"support/{drums}"], figures[f"support/{absent}"]) == (32, 0)
    for name in (drums, absent):
        assert math.isnan(figures[f"roc_auc/{name}"])
        assert math.isnan(figures[f"pr_auc/{name}"])
    nobody = metrics.evaluate(np.zeros((3, 2)), np.full((3, 2), 0.5), ["a", "b"], np.full(2, 0.5))
    assert math.isnan(nobody["roc_auc_macro"])
    assert math.isnan(nobody["pr_auc_macro"])


@pytest.mark.parametrize("mode", ["frozen", "finetune"])
@pytest.mark.parametrize("given", ["run", "folder", "file"])
def test_instruments_start_from_a_run_or_a_file_of_it(learned, instrument_task, tmp_path, mode, given):
    trained, _, _ = learned
    trained.save(tmp_path / "model")
    tracker = Tracker(f"sqlite:///{tmp_path / 'mlflow.db'}") if given == "run" else None
    if given == "run":
        run = tracker.start("tagging", {"timbrel.task": "tagging"})
        save_logged_model(trained, tmp_path / "logged")
        run.log_folder(tmp_path / "logged", "model")
        run.close()
    where = {"folder": tmp_path / "model", "file": tmp_path / "model/weights.pt"}.get(given) or run.id
    shared = {"mixing.sample_rate": RATE_HZ, "mixing.seconds": 1.1, "front_end.hop": 128, "model.width": 4}
    values = {**shared, "transfer.mode": mode, "transfer.checkpoint": str(where)}
    config = with_values(instrument_task.config_type(), values)
    weights = resolve_weights(tracker, instrument_task.pretrained(config))
    got = Learner(instrument_task, config, CPU, weights).model.state_dict()
    for name, tensor in trained.weights.items():
        if not name.startswith("head."):
            assert torch.equal(got[name], tensor), name
    assert got["head.4.weight"].shape == (15, 16)


def test_a_run_of_it_goes_on_in_another_run_of_it(learned, tmp_path):
    trained, _, _ = learned
    trained.save(tmp_path / "model")
    config = config_of(model__width=4, start_from=str(tmp_path / "model"), start_head=True)
    weights = resolve_weights(None, TASK.pretrained(config))
    got = Learner(TASK, config, CPU, weights).model.state_dict()
    assert all(torch.equal(got[name], tensor) for name, tensor in trained.weights.items())
