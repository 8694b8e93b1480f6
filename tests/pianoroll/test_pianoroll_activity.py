"""Instruments judged where it is known when stems sound and not what they play."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation
from sklearn.metrics import roc_auc_score

from tasks.pianoroll import activity
from tasks.pianoroll.instruments import NINE, PROGRAMS, heard_classes, name_classes, note_classes
from timbrel.config import with_values
from timbrel.errors import UserError
from timbrel.library import Library
from timbrel.mixing.index import build_index, evaluation_index, missing_examples
from timbrel.mixing.notes import activity_notes, mixture_notes
from timbrel.mixing.plan import plan_mixture
from timbrel.mixing.pool import Stream, mix
from timbrel.mixing.rolls import instrument_roll, pianoroll
from timbrel.settings import evaluation_recipe
from timbrel.taxonomy import TAXONOMY

UNKNOWN = -1


def classes_by_name(*names, classes=NINE):
    found = name_classes(names, np.full(len(names), UNKNOWN, dtype=np.int16), classes)
    return [[classes[i] for i in np.flatnonzero(row)] for row in found]


# Names


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("piano", "piano"),
        ("Tack Piano", "piano"),
        ("electric piano", None),
        ("toy piano", None),
        ("acoustic guitar", "acoustic guitar"),
        ("distorted electric guitar", "electric guitar"),
        ("guitar", None),
        ("lap steel guitar", None),
        ("Guitar_2", None),
        ("trumpets", "trumpet"),
        ("cornet", None),
        ("tenor saxophone", "saxophone"),
        ("SaxMic_PeerArray", "saxophone"),
        ("clarinet", None),
        ("electric bass", "bass"),
        ("bass", "bass"),
        ("double bass", "bass"),
        ("arco bass", None),
        ("Contrabass", None),
        ("synth bass", None),
        ("bass drum", None),
        ("bass clarinet", None),
        ("violin section", "violin"),
        ("02_Violins", "violin"),
        ("fiddle", "violin"),
        ("viola", None),
        ("string section", None),
        ("cello", "cello"),
        ("Violoncello", "cello"),
        ("cello samples", "cello"),
        ("flute", "flute"),
        ("alto flute", "flute"),
        ("bamboo flute", None),
        ("piccolo", None),
        ("drum set", None),
        ("vocals", None),
        ("something that nobody plays", None),
    ],
)
def test_names(name, expected):
    assert classes_by_name(name) == [[expected] if expected else []]


def test_names_of_general_midi_agree_with_its_programs():
    """But for the fiddle, which is a violin by name and has a program of its own."""
    entries = [entry for entry in TAXONOMY.entries if entry.program is not None and entry.program < PROGRAMS]
    assert len(entries) == PROGRAMS
    by_name = classes_by_name(*(entry.name for entry in entries))
    by_program = note_classes(np.array([entry.program for entry in entries]), NINE)
    for entry, named, number in zip(entries, by_name, by_program, strict=True):
        if entry.name != "Fiddle":
            assert named == ([NINE[number]] if number >= 0 else []), entry.name


def test_a_known_program_decides():
    names = ["violin", "violin", "Bass", "drums", "whatever"]
    programs = np.array([UNKNOWN, 0, 38, 128, 73], dtype=np.int16)
    found = name_classes(names, programs, NINE)
    assert [np.flatnonzero(row).tolist() for row in found] == [[6], [0], [], [], [8]]


def test_families_and_single_programs_are_known_by_program_alone():
    classes = ("Guitar", "Reed", "Viola", "Cello")
    assert classes_by_name("guitar", "saxophone", "viola", "cello", classes=classes) == [[], [], [], ["Cello"]]
    found = name_classes(["x"] * 4, np.array([25, 66, 41, 42]), classes)
    np.testing.assert_array_equal(found, np.eye(4, dtype=bool))


def test_nothing_of_the_songs_is_left_out_but_what_nobody_can_name():
    names = ["violin", "guitar", "lead gtr", "drums", "vocals", "string section", "Main System", "click", "hm", "x"]
    programs = np.full(len(names), UNKNOWN, dtype=np.int16)
    programs[-1] = 120  # a program is played by somebody, whatever it is
    found = heard_classes(names, programs, NINE)
    unsaid, other = len(NINE), len(NINE) + 1
    assert found.shape == (10, len(NINE) + activity.MORE)
    expected = [[6], [unsaid], [unsaid], [other], [other], [other], [], [], [], [other]]
    assert [np.flatnonzero(row).tolist() for row in found] == expected
    assert heard_classes([], np.zeros(0, dtype=np.int16), NINE).shape == (0, len(NINE) + activity.MORE)


# Figures


@pytest.fixture
def judged():
    """Thirty windows of two frames a second, and what is said of them."""
    generator = np.random.default_rng(3)
    there = generator.random((30, len(NINE) + 2, 20)) < 0.2
    scores = np.clip(0.3 * there[:, : len(NINE)] + 0.7 * generator.random((30, len(NINE), 20)), 0, 1)
    return there, scores, np.repeat(list("abc"), 10)


def seconds(array):
    """Return the highest of two frames, ``(example x second,)``."""
    return array.reshape(len(array), -1, 2).max(axis=-1).ravel()


def test_table_3(judged):
    there, scores, songs = judged
    figures = activity.evaluate(there, scores, songs, NINE, 0.5)
    expected = {name: roc_auc_score(seconds(there[:, i]), seconds(scores[:, i])) for i, name in enumerate(NINE)}
    for name, area in expected.items():
        assert figures[f"roc_auc_1s/{name}"] == pytest.approx(area), name
    assert figures["roc_auc_1s_macro"] == pytest.approx(np.mean(list(expected.values())))
    guitar = roc_auc_score(
        seconds(there[:, 1] | there[:, 2] | there[:, 9]), seconds(np.maximum(scores[:, 1], scores[:, 2]))
    )
    assert figures["roc_auc_1s/guitar"] == pytest.approx(guitar)
    five = [expected["piano"], guitar, *(expected[name] for name in ("violin", "cello", "flute"))]
    assert figures["table3_roc_auc_1s"] == pytest.approx(np.mean(five))
    assert {f"roc_auc_{window}/guitar" for window in ("1s", "5s", "10s", "track")} <= set(figures)


def test_an_instrument_that_never_plays_is_left_out_of_the_mean(judged):
    there, scores, songs = judged
    there[:, NINE.index("flute")] = False
    figures = activity.evaluate(there, scores, songs, NINE, 0.5)
    assert np.isnan(figures["roc_auc_1s/flute"])
    four = [figures[f"roc_auc_1s/{name}"] for name in ("piano", "guitar", "violin", "cello")]
    assert figures["table3_roc_auc_1s"] == pytest.approx(np.mean(four))


def test_a_guitar_that_nobody_calls_electric_counts_for_the_guitar_alone(judged):
    there, scores, songs = judged
    before = activity.evaluate(there, scores, songs, NINE, 0.5)
    there[:, len(NINE)] = ~there[:, len(NINE)]
    after = activity.evaluate(there, scores, songs, NINE, 0.5)
    changed = {name for name in before if not np.isclose(before[name], after[name], equal_nan=True)}
    assert {"roc_auc_1s/guitar", "table3_roc_auc_1s"} <= changed
    assert changed <= {"table3_roc_auc_1s", *(f"roc_auc_{window}/guitar" for window in ("1s", "5s", "10s", "track"))}


def test_models_of_other_instruments(judged):
    there, scores, songs = judged
    some = ("Violin", "Electric Guitar", "flute")
    figures = activity.evaluate(there[:, :5], scores[:, :3], songs, some, 0.5)
    assert not [name for name in figures if name.endswith("/guitar") or name.startswith("table3")]
    assert "roc_auc_1s/Violin" in figures


# The task


@pytest.fixture(scope="module")
def by_activity(roll_task):
    values = {"mixing.seconds": 4.096, "front_end.engine": "librosa", "evaluation.truth": "activity"}
    return with_values(roll_task.config_type(), values)


@pytest.mark.parametrize("split", ["train", "test"])
def test_activity_and_notes_agree_on_who_plays(roll_task, by_activity, band_library, split):
    """On songs with both, in the same windows: to within the smoothing of activity, whose filter reaches over some
    tenths of a second, so that it begins before a note, ends after it and closes the rests between short ones."""
    library = Library.open(band_library)
    rolls = {}
    for truth, sounding in (("notes", mixture_notes), ("activity", activity_notes)):
        config = with_values(by_activity, {"evaluation.truth": truth})
        index, recipe = evaluation_index(library, split, roll_task, config), evaluation_recipe(config)
        assert index.has_notes == (truth == "notes")
        for number, (song, start_s) in enumerate(zip(index.window_songs, index.window_starts, strict=True)):
            plan = plan_mixture(index, recipe, 0, "test", number)
            found = sounding(plan.sources, index, recipe)
            found = found._replace(pitches=np.full_like(found.pitches, config.grid.lowest))
            playing = instrument_roll(pianoroll(found, len(NINE) + activity.MORE, config.grid))[: len(NINE)]
            rolls.setdefault((index.songs[int(song)].as_py(), float(start_s)), []).append(playing)
    assert len(rolls) >= 2
    true, heard = (np.stack(side) for side in zip(*rolls.values(), strict=True))
    assert true.any(axis=(0, 2)).sum() >= 3
    around = np.ones((1, 1, 2 * 5 + 1), dtype=bool)  # five frames are 0.32 s
    assert np.count_nonzero(heard & ~binary_dilation(true, around)) < 0.01 * np.count_nonzero(heard)
    assert np.count_nonzero(true & ~heard) < 0.01 * np.count_nonzero(true)


def test_songs_are_heard_whole(roll_task, by_activity, band_library):
    """Drums and whatever else plays are in the mixture, and the labels say who."""
    library = Library.open(band_library)
    index = evaluation_index(library, "test", roll_task, by_activity)
    stems = library.catalogue(columns=["split", "stem"]).to_pylist()
    assert len(index.paths) == sum(stem["split"] == "test" for stem in stems)
    fewer = build_index(library, "test", roll_task, with_values(by_activity, {"evaluation.truth": "notes"}))
    assert len(fewer.paths) < len(index.paths)
    assert not [line for line in missing_examples(library, roll_task, by_activity) if "left out" in line]
    maker = roll_task.example_maker(by_activity)
    stream = Stream(index, evaluation_recipe(by_activity), 0, "test", maker=maker)
    examples = mix(stream, index, range(2))
    assert examples["roll"].shape == (2, 11, 88, 64)
    assert not examples["roll"][:, :, 1:].any()
    assert examples["roll"][:, 10, 0].any()  # the drums
    outputs = roll_task.outputs(examples, {"logits": np.zeros((2, 9, 88, 64), dtype=np.float16)}, by_activity)
    assert outputs.labels.shape == outputs.scores.shape == (2 * 64, 9)
    np.testing.assert_array_equal(outputs.labels[64:].T > 0, examples["roll"][1, :9, 0])


def test_only_instruments_are_judged(roll_task, by_activity, tone_library):
    """In songs without notes or programs of a piano, a violin, drums and a bass that never sounds."""
    library, by_activity = Library.open(tone_library), with_values(by_activity, {"data.datasets": "tones"})
    index = evaluation_index(library, "train", roll_task, by_activity)
    stream = Stream(index, evaluation_recipe(by_activity), 0, "test", maker=roll_task.example_maker(by_activity))
    examples = {**mix(stream, index, range(len(index.window_songs)))}
    examples["song"] = np.array(index.songs.to_pylist())[examples["song"]]
    # Logits that know everything: every key where an instrument plays.
    sure = np.where(examples["roll"][:, :9, :1], 30.0, -30.0).repeat(88, axis=2).astype(np.float16)
    predictions = {name: values.numpy() for name, values in roll_task.predictions(torch.from_numpy(sure)).items()}
    outputs = roll_task.outputs(examples, predictions, by_activity)
    thresholds = dict.fromkeys((*NINE, "pianoroll", "pitch roll"), 0.5)
    figures = roll_task.evaluate(outputs, thresholds, by_activity)
    assert figures["f1_micro"] == pytest.approx(1)
    areas = {name: figures[f"roc_auc_1s/{name}"] for name in NINE}
    assert {name for name, area in areas.items() if not np.isnan(area)} <= {"piano", "violin"}
    assert areas["violin"] == figures["roc_auc_1s_macro"] == figures["table3_roc_auc_1s"] == 1
    assert figures["support/piano"] == pytest.approx(len(outputs.labels), rel=0.05)
    assert figures["support/bass"] == 0
    assert not [name for name in figures if name.startswith(("pitch", "roll", "note", "loss_"))]
    assert roll_task.last_figures(outputs, thresholds, by_activity) == {}
    assert roll_task.pictures(outputs, thresholds, by_activity) == {}


def test_nothing_can_be_learned_from_it(roll_task, by_activity):
    def index():
        raise AssertionError("no song is needed to say so")

    with pytest.raises(UserError, match=r"evaluation\.truth=activity is for `timbrel evaluate`"):
        roll_task.settled(by_activity, index, gpu=False)


def test_examples_by_activity_are_others(roll_task, by_activity):
    """So that runs judged on one are not compared with runs judged on the other as if they were the same."""
    own = roll_task.example_maker(by_activity)
    other = roll_task.example_maker(with_values(by_activity, {"evaluation.truth": "notes"}))
    assert own != other
    assert replace(own, pitched=True, classes=9) == other
