import math
import re
import warnings

import mir_eval
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name

from timbrel import metrics
from timbrel import transcription as tr

pytestmark = pytest.mark.filterwarnings("error")  # warnings about undefined metrics must not leak

FRAME_S = 0.064
NAN = math.nan


def roll(*rows):
    """A roll from rows of text, one a pitch or class: ``#`` is on."""
    return np.array([[mark == "#" for mark in row] for row in rows])


@st.composite
def rolls(draw, dimensions=3):
    """A true and an estimated roll, sparse enough for silence and dense enough for hits."""
    shape = (*(draw(st.integers(1, 4)) for _ in range(dimensions - 1)), draw(st.integers(1, 12)))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    density = draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    targets = generator.random(shape) < density
    return targets, targets ^ (generator.random(shape) < draw(st.sampled_from([0.0, 0.2, 0.6])))


def by_mir_eval(targets, decisions):
    """mir_eval's accuracy with all streams of pitches one after another in time; NaN where it says so by 0."""
    pitches, frames = targets.shape[-2:]
    hertz = mir_eval.util.midi_to_hz(np.arange(pitches) + 60)
    lists = [
        [hertz[frame] for stream in array.reshape(-1, pitches, frames) for frame in stream.T]
        for array in (targets, decisions)
    ]
    times = np.arange(len(lists[0])) * FRAME_S
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        accuracy = mir_eval.multipitch.metrics(times, lists[0], times, lists[1])[2]
    return accuracy if targets.any() or decisions.any() else NAN


def plain_accuracy(targets, decisions):
    union = (targets | decisions).sum()
    return (targets & decisions).sum() / union if union else NAN


def split(seed=0, examples=6, classes=3, pitches=7, frames=40, dtype=np.float32):
    """A true roll of a few long notes, and scores that mostly agree with it."""
    generator = np.random.default_rng(seed)
    targets = np.zeros((examples, classes, pitches, frames), dtype=bool)
    for example in targets:
        for _ in range(6):
            begin = generator.integers(frames)
            example[generator.integers(classes), generator.integers(pitches), begin : begin + 6] = True
    noisy = np.clip(0.5 * targets + 0.6 * generator.random(targets.shape), 0, 1).astype(dtype)
    scores = tr.Scores(roll=noisy, pitch=noisy.max(axis=1), instrument=noisy.max(axis=2))
    return targets, scores, tr.Thresholds(0.55, 0.6, np.full(classes, 0.58)), ["a", "a", "b", "c", "b", "a"][:examples]


CLASSES = ("piano", "violin", "flute")


# Accuracy


def test_counts_and_accuracy_by_hand():
    # Example 0: pitch 0 is hit twice and missed once, pitch 1 gets one false alarm. Example 1: one miss.
    targets = np.stack([roll("###.", "...."), roll("#...", "....")])
    decisions = np.stack([roll("##..", "...#"), roll("....", "....")])
    assert [list(counts) for counts in tr.frame_counts(targets, decisions)] == [[2, 0], [1, 1], [1, 0]]
    assert tr.multipitch_accuracy(targets, decisions) == 2 / 5
    assert tr.multipitch_accuracy_per_song(targets, decisions, ["x", "y"]) == (2 / 4 + 0 / 1) / 2
    assert tr.multipitch_accuracy_per_song(targets, decisions, ["x", "x"]) == 2 / 5


def test_the_right_pitch_by_the_wrong_instrument_is_a_miss_and_a_false_alarm():
    targets, decisions = np.zeros((2, 1, 2, 3, 10), dtype=bool)
    targets[0, 0, 1, 2:6] = decisions[0, 1, 1, 2:6] = True
    assert [counts[0] for counts in tr.frame_counts(targets, decisions)] == [0, 4, 4]
    assert tr.multipitch_accuracy(targets, decisions) == 0
    assert tr.multipitch_accuracy(targets.any(axis=1), decisions.any(axis=1)) == 1


def test_silence_found_silent_is_undefined_and_left_out():
    silence, sound = np.zeros((1, 2, 5), dtype=bool), np.ones((1, 2, 5), dtype=bool)
    assert math.isnan(tr.multipitch_accuracy(silence, silence))
    assert math.isnan(tr.multipitch_accuracy_per_song(silence, silence, ["x"]))
    assert tr.multipitch_accuracy(silence, sound) == tr.multipitch_accuracy(sound, silence) == 0
    both = np.concatenate([silence, sound])
    assert tr.multipitch_accuracy_per_song(both, both, ["quiet", "loud"]) == 1


@given(rolls())
@settings(max_examples=60, deadline=None)
def test_the_accuracy_of_pitch_rolls_is_that_of_mir_eval(pair):
    assert tr.multipitch_accuracy(*pair) == pytest.approx(by_mir_eval(*pair), nan_ok=True)


@given(rolls(dimensions=4))
@settings(max_examples=60, deadline=None)
def test_the_accuracy_of_rolls_is_that_of_mir_eval_with_a_stream_a_class(pair):
    assert tr.multipitch_accuracy(*pair) == pytest.approx(by_mir_eval(*pair), nan_ok=True)


@given(rolls(), st.data())
@settings(max_examples=60, deadline=None)
def test_the_accuracy_per_song_is_the_mean_of_the_songs_own(pair, data):
    songs = np.array(data.draw(st.lists(st.sampled_from("abc"), min_size=len(pair[0]), max_size=len(pair[0]))))
    of_songs = [by_mir_eval(*(array[songs == song] for array in pair)) for song in set(songs)]
    defined = [value for value in of_songs if not math.isnan(value)]
    expected = np.mean(defined) if defined else NAN
    assert tr.multipitch_accuracy_per_song(*pair, songs) == pytest.approx(expected, nan_ok=True)


# F1 of instruments


def test_instrument_f1_by_hand():
    # Class 0: 2 hits, 1 miss, 1 false alarm. Class 1: silent, a false alarm. Class 2: 1 hit.
    targets = roll("###.", "....", "#...")[None]
    decisions = roll(".###", "#...", "#...")[None]
    result = tr.instrument_f1(targets, decisions)
    assert result.per_class == pytest.approx([4 / 6, NAN, 1], nan_ok=True)
    assert result.macro == pytest.approx((4 / 6 + 1) / 2)
    assert result.micro == pytest.approx(2 * 3 / (4 + 5))


@given(rolls())
@settings(max_examples=40, deadline=None)
def test_instrument_f1_is_frame_by_frame(pair):
    targets, decisions = pair
    frames = [np.array([array[e, :, t] for e in range(len(array)) for t in range(array.shape[2])]) for array in pair]
    assert tr.instrument_f1(*pair).per_class == pytest.approx(metrics.f1(*frames), nan_ok=True)
    expected = 2 * (targets & decisions).sum() / (targets.sum() + decisions.sum()) if targets.any() else NAN
    assert tr.instrument_f1(*pair).micro == pytest.approx(expected, nan_ok=True)


# Threshold


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@given(seed=st.integers(0, 2**32 - 1), bins=st.sampled_from([1, 7, 20, 1000]))
@settings(max_examples=30, deadline=None)
def test_the_threshold_is_the_best_of_the_grid(dtype, seed, bins):
    generator = np.random.default_rng(seed)
    targets = generator.random((2, 3, 4)) < 0.4
    on_grid = generator.integers(0, bins + 1, targets.shape) / bins  # rounded, so on, just above or just below it
    nudged = np.nextafter(on_grid, generator.choice([0.0, 1.0], targets.shape))
    scores = generator.choice([on_grid, nudged, generator.random(targets.shape)]).astype(dtype)
    scores[targets] = scores[targets] ** dtype(0.5)
    grid = [n / bins for n in range(1, bins + 1)]
    accuracies = [plain_accuracy(targets, scores.astype(np.float64) >= threshold) for threshold in grid]
    chosen = tr.choose_roll_threshold(targets, scores, fallback=0.123, bins=bins)
    if not targets.any():
        assert chosen == 0.123
        return
    best = [threshold for threshold, value in zip(grid, accuracies, strict=True) if value == np.nanmax(accuracies)]
    assert chosen in best
    assert abs(chosen - 0.5) == min(abs(threshold - 0.5) for threshold in best)


def test_the_threshold_by_hand():
    targets, scores = roll("##.."), np.array([[0.9, 0.3, 0.2, 0.1]], dtype=np.float16)
    # From 0.201 to 0.3 all is right; float16's 0.3 is 0.30005.
    assert tr.choose_roll_threshold(targets, scores, fallback=0.85) == 0.3
    assert tr.choose_roll_threshold(targets, 1.0 * targets, fallback=0.85) == 0.5
    assert tr.choose_roll_threshold(~targets & targets, scores, fallback=0.85) == 0.85


@pytest.mark.parametrize("bins", [7, 100, 1000])
def test_a_threshold_is_tried_as_it_is_not_as_it_is_rounded(bins):
    targets = roll("#.")
    for n in range(1, bins + 1):
        at, below = n / bins, np.nextafter(n / bins, 0)
        assert tr.choose_roll_threshold(targets, np.array([[at, below]]), fallback=0.5, bins=bins) == at


def test_the_threshold_does_not_depend_on_how_the_scores_are_split_up(monkeypatch):
    targets, scores, *_ = split()
    whole = tr.choose_roll_threshold(targets, scores.roll, fallback=0.5)
    monkeypatch.setattr(tr, "_CHUNK", 101)
    assert tr.choose_roll_threshold(targets, scores.roll, fallback=0.5) == whole


# Windows


def test_windows_keep_time():
    frames = np.arange(156.0)[None, None]  # each frame's score is its number: a window's is its last frame's
    # Frame 15 starts at 0.960 s, frame 31 at 1.984 s, frame 78 at 4.992 s; the last one, 155, at 9.920 s.
    assert list(tr.pooled(frames, 1, FRAME_S)[0, 0]) == [15, 31, 46, 62, 78, 93, 109, 124, 140, 155]
    assert list(tr.pooled(frames, 5, FRAME_S)[0, 0]) == [78, 155]
    assert list(tr.pooled(frames, 10, FRAME_S)[0, 0]) == [155]
    assert list(tr.pooled(frames, 0.01, FRAME_S)[0, 0]) == list(range(156))  # no shorter than a frame


@pytest.mark.parametrize("frame_s", [0.1, 0.05, 0.02])
def test_a_frame_at_the_border_is_in_the_later_window_however_rounded(frame_s):
    frames = np.arange(300.0)[None, None]
    for n in range(1, 40):
        expected = [*range(n - 1, 299, n), 299]
        assert list(tr.pooled(frames, n * frame_s, frame_s)[0, 0]) == sorted(set(expected))


def test_windows_do_not_mix_examples_or_classes():
    scores = np.zeros((2, 2, 20))
    scores[0, 1, -1] = 1
    assert tr.pooled(scores, 1, 0.1).tolist() == [[[0, 0], [0, 1]], [[0, 0], [0, 0]]]
    assert tr.pooled(scores == 1, 10, 0.1).tolist() == [[[False], [True]], [[False], [False]]]


def test_auc_by_windows_and_tracks_by_hand():
    # One class, 0.5 s a frame. Windows of 1 s: present .6 and .3, absent .5 and .1 -> 3 of 4 pairs in order.
    targets = np.array([[[0, 1, 0, 0]], [[1, 0, 0, 0]]], dtype=bool)
    scores = np.array([[[0.6, 0.2, 0.5, 0.4]], [[0.2, 0.3, 0.1, 0.0]]])
    areas = tr.pooled_auc(targets, scores, ["x", "y"], 0.5, windows_s=(1, 2))
    assert list(areas) == ["1s", "2s", "track"]
    assert areas["1s"] == pytest.approx([3 / 4])
    assert np.isnan(areas["2s"]).all()  # in both windows
    targets[1] = False
    areas = tr.pooled_auc(targets, scores, ["x", "y"], 0.5, windows_s=(1, 2))
    assert areas["2s"] == areas["track"] == [1]
    assert np.isnan(tr.pooled_auc(targets, scores, ["x", "x"], 0.5)["track"]).all()  # one song


# All together


def test_evaluate_is_made_of_the_single_metrics():
    targets, scores, thresholds, songs = split()
    result = tr.evaluate(targets, scores, thresholds, songs, CLASSES, FRAME_S)
    pitch, decided = scores.pitch >= 0.6, scores.roll >= 0.55
    assert result["pitch_accuracy"] == plain_accuracy(targets.any(axis=1), pitch)
    assert result["pitch_accuracy_per_song"] == tr.multipitch_accuracy_per_song(targets.any(axis=1), pitch, songs)
    assert result["roll_accuracy"] == plain_accuracy(targets, decided)
    assert result["roll_accuracy_per_song"] == tr.multipitch_accuracy_per_song(targets, decided, songs)
    assert result["roll_accuracy/violin"] == plain_accuracy(targets[:, 1], decided[:, 1])
    f1 = tr.instrument_f1(targets.any(axis=2), scores.instrument >= 0.58)
    assert (result["instrument_f1_micro"], result["instrument_f1_macro"]) == (f1.micro, f1.macro)
    assert result["instrument_f1/flute"] == f1.per_class[2]
    areas = tr.pooled_auc(targets.any(axis=2), scores.instrument, songs, FRAME_S)
    assert result["roc_auc_1s_macro"] == metrics.macro(areas["1s"])
    assert result["roc_auc_track/piano"] == pytest.approx(areas["track"][0], nan_ok=True)
    assert result["instrument_support/piano"] == targets[:, 0].any(axis=1).sum()
    assert 0 < result["roll_accuracy"] < 1
    assert all(type(value) is float for value in result.values())
    for name in result:
        _validate_metric_name(name)


def test_what_scores_at_its_threshold_is_on():
    targets, _, _, songs = split()
    at = tr.Scores(*(np.where(array, 0.25, 0.0) for array in (targets, targets.any(axis=1), targets.any(axis=2))))
    result = tr.evaluate(targets, at, tr.Thresholds(0.25, 0.25, np.full(3, 0.25)), songs, CLASSES, FRAME_S)
    assert result["roll_accuracy"] == result["pitch_accuracy"] == result["instrument_f1_micro"] == 1


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_perfect_prediction_has_1_wherever_defined(dtype):
    targets, _, thresholds, songs = split()
    scores = tr.Scores(*(rolled.astype(dtype) for rolled in (targets, targets.any(axis=1), targets.any(axis=2))))
    result = tr.evaluate(targets, scores, thresholds, songs, CLASSES, FRAME_S)
    figures = {name: value for name, value in result.items() if "support" not in name}
    assert {value for value in figures.values() if not math.isnan(value)} == {1.0}
    assert not math.isnan(figures["roll_accuracy_per_song"] + figures["roc_auc_1s_macro"])


def test_nothing_predicted_has_0_and_nothing_played_is_undefined():
    targets, scores, thresholds, songs = split()
    nothing = tr.Scores(*(np.zeros_like(array) for array in scores))
    result = tr.evaluate(targets, nothing, thresholds, songs, CLASSES, FRAME_S)
    assert result["pitch_accuracy"] == result["roll_accuracy"] == result["instrument_f1_macro"] == 0
    silent = tr.evaluate(targets & False, nothing, thresholds, songs, CLASSES, FRAME_S)
    assert silent.keys() == result.keys()
    assert {name for name, value in silent.items() if not math.isnan(value)} == {
        f"instrument_support/{name}" for name in CLASSES
    }


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_the_order_of_examples_does_not_matter(seed):
    targets, scores, thresholds, songs = split(seed)
    order = np.random.default_rng(seed).permutation(len(targets))
    shuffled = tr.Scores(*(array[order] for array in scores))
    result = tr.evaluate(targets, scores, thresholds, songs, CLASSES, FRAME_S)
    other = tr.evaluate(targets[order], shuffled, thresholds, np.array(songs)[order], CLASSES, FRAME_S)
    assert other == pytest.approx(result, nan_ok=True)
    threshold = tr.choose_roll_threshold(targets, scores.roll, fallback=0.5)
    assert tr.choose_roll_threshold(targets[order], shuffled.roll, fallback=0.5) == threshold


@given(rolls(dimensions=4))
@settings(max_examples=40, deadline=None)
def test_the_true_pitch_roll_is_what_is_on_for_any_class(pair):
    targets, decisions = pair
    scores = tr.Scores(*(1.0 * array for array in (decisions, decisions.any(axis=1), decisions.any(axis=2))))
    classes = [str(n) for n in range(targets.shape[1])]
    songs = ["song"] * len(targets)
    result = tr.evaluate(targets, scores, tr.Thresholds(0.5, 0.5, np.full(len(classes), 0.5)), songs, classes, FRAME_S)
    pitch = by_mir_eval(targets.any(axis=1), decisions.any(axis=1))
    assert result["pitch_accuracy"] == pytest.approx(pitch, nan_ok=True)
    if len(classes) == 1:
        assert result["roll_accuracy"] == pytest.approx(pitch, nan_ok=True)
    if result["roll_accuracy"] == 1:
        assert result["pitch_accuracy"] == 1
    assert math.isnan(result["pitch_accuracy"]) == math.isnan(result["roll_accuracy"])


# Wrong input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": np.zeros((6, 3, 7), dtype=bool)}, "(example, class, pitch, frame), none of them 0, got (6, 3, 7)"),
        ({"targets": np.zeros((6, 3, 7, 40))}, "targets of type bool, got float64"),
        ({"roll": np.zeros((6, 3, 7, 39))}, "roll scores (6, 3, 7, 40) for targets (6, 3, 7, 40), got (6, 3, 7, 39)"),
        ({"pitch": np.zeros((6, 3, 40))}, "pitch scores (6, 7, 40)"),
        ({"instrument": np.zeros((6, 7, 40))}, "instrument scores (6, 3, 40)"),
        ({"instrument": np.full((6, 3, 40), NAN)}, "finite instrument scores in [0, 1], got nan"),
        ({"pitch": np.full((6, 7, 40), -2.5)}, "finite pitch scores in [0, 1], got -2.5"),
        ({"pitch": np.zeros((6, 7, 40), dtype=int)}, "pitch scores of a float type, got int64"),
        ({"instrument_threshold": np.full(2, 0.5)}, "one instrument threshold a class (3,), got (2,)"),
        ({"roll_threshold": NAN}, "thresholds in [0, 1]"),
        ({"classes": ("piano", "violin", "piano")}, "3 distinct class names"),
        ({"songs": ["a"]}, "one song an example (6,), got (1,)"),
        ({"frame_s": 0.0}, "frames of more than 0 s, got 0.0"),
    ],
)
def test_input_that_does_not_fit_is_named(change, message):
    targets, scores, thresholds, songs = split()
    given_ = {"targets": targets, "songs": songs, "classes": CLASSES, "frame_s": FRAME_S} | change
    scores = scores._replace(**{name: value for name, value in change.items() if name in tr.Scores._fields})
    names = {"roll_threshold": "roll", "instrument_threshold": "instrument"}
    thresholds = thresholds._replace(**{names[name]: value for name, value in change.items() if name in names})
    with pytest.raises(ValueError, match=re.escape(message)):
        tr.evaluate(given_["targets"], scores, thresholds, given_["songs"], given_["classes"], given_["frame_s"])


def test_rolls_of_different_shapes_or_types_are_refused():
    on = np.ones((2, 3, 4), dtype=bool)
    with pytest.raises(ValueError, match=re.escape("got (2, 3, 4) and (2, 3)")):
        tr.multipitch_accuracy(on, on[..., 0])
    with pytest.raises(ValueError, match=re.escape("type bool, got bool and float64")):
        tr.instrument_f1(on, 1.0 * on)
    with pytest.raises(ValueError, match=re.escape("none of it 0, got (0, 3, 4)")):
        tr.frame_counts(on[:0], on[:0])
    with pytest.raises(ValueError, match=re.escape("one song an example (2,), got (3,)")):
        tr.multipitch_accuracy_per_song(on, on, ["a", "b", "c"])
    with pytest.raises(ValueError, match=re.escape("in [0, 1], got 2.0 to 2.0")):
        tr.choose_roll_threshold(on, 2.0 * on, fallback=0.5)
    with pytest.raises(ValueError, match="at least one bin, got 0"):
        tr.choose_roll_threshold(on, 1.0 * on, fallback=0.5, bins=0)
    with pytest.raises(ValueError, match=re.escape("windows of more than 0 s, got nan")):
        tr.pooled(1.0 * on, NAN, FRAME_S)
    with pytest.raises(ValueError, match=re.escape("(example, class, frame), none of them 0, got (2, 3)")):
        tr.pooled(on[..., 0], 1, FRAME_S)
