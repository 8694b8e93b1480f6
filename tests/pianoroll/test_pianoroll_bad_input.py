"""What task pianoroll can not work with is refused, or said, in a sentence: the field, its value and the remedy."""

import numpy as np
import pytest

from tasks.pianoroll.losses import rarity_weights
from tasks.pianoroll.rolls import active_shares
from timbrel import registry
from timbrel.config import with_values
from timbrel.errors import UserError
from timbrel.library import Library
from timbrel.mixing.index import build_index, missing_examples

TASK = registry.load("task", "pianoroll")
SHIFT = {"mixing.effects.pitch_shift.p": 0.5, "mixing.effects.pitch_shift.low": -3.0}


def config_of(values):
    return with_values(TASK.config_type(), values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"instruments": "piano,violn"}, r"unknown instrument 'violn': did you mean 'violin'"),
        ({"instruments": "piano,flute,Piano"}, r"instrument 'Piano' is there twice: leave one out"),
        ({"instruments": ""}, r"at least one instrument is needed"),
        ({"instruments": "violin,strings"}, r"'violin' and 'strings' overlap, as 'Violin' counts for both"),
        (SHIFT, r"pitch_shift\.step \(0\) must be a whole number of semitones .*1, for instance"),
        ({**SHIFT, "mixing.effects.pitch_shift.step": 0.5}, r"pitch_shift\.step \(0\.5\) must be a whole number"),
        ({**SHIFT, "mixing.effects.pitch_shift.step": 4.0, "mixing.effects.pitch_shift.high": -1.0}, "no multiple"),
        ({"mixing.effects.others": "Reverse(p=0.5)"}, r"others \(Reverse\(p=0\.5\)\) moves notes .*use mixing"),
        ({"mixing.effects.others": "AddGaussianSNR(p=0.1),PitchShift"}, r"others \(PitchShift\) moves notes"),
        ({"mixing.channels": 2}, r"mixing\.channels \(2\) must be 1"),
        ({"front_end.f_min": 28.0}, r"front_end\.f_min \(28 Hz\) and bins \(88\) must be notes of MIDI: 27\.5"),
        ({"front_end.f_min": 110.0, "mixing.sample_rate": 96_000}, r"front_end\.f_min \(110 Hz\) and bins \(88\) must"),
        ({"front_end.f_min": 55.0}, r"bins=88 .* reach 8\d\d\d Hz, above half .* raise mixing\.sample_rate"),
        ({"front_end.bins_per_octave": 24}, r"front_end\.bins_per_octave \(24\) must be 12"),
        ({"mixing.sample_rate": 8000}, r"bins=88 .* lower bins or f_min, or raise mixing\.sample_rate"),
        ({"mixing.seconds": 0.4}, r"at least 16 bins and 16 frames, not 88 and 12: .*\(mixing\.seconds\)"),
        ({"front_end.hop": 20_000}, r"16 frames, not 88 and 8"),
        ({"pool": 400}, r"16 frames, not 88 and 0"),
        ({"pool": 0}, r"pool=0"),
        ({"evaluation.windows": "drawn", "evaluation.valid_examples": 0}, r"valid_examples and test_examples must be"),
        ({"evaluation.roll_threshold": 1.0}, r"evaluation\.roll_threshold=1"),
    ],
)
def test_configs_that_can_not_be(values, message):
    with pytest.raises(UserError, match=message):
        config_of(values)


def test_configs_that_look_odd_and_are_not():
    """Another octave, another pooling, a shift of whole thirds, noise as an effect."""
    config = config_of({"front_end.f_min": 55.0, "front_end.bins": 60, "pool": 5})
    assert (config.lowest_key, config.grid.pitches, config.grid.fine_frames) == (33, 60, 310)
    config_of({**SHIFT, "mixing.effects.pitch_shift.high": 3.0, "mixing.effects.pitch_shift.step": 3.0})
    config_of({"mixing.effects.others": "AddGaussianSNR(p=0.1)"})


def test_a_library_without_notes(tone_library):
    with pytest.raises(UserError) as raised:
        build_index(Library.open(tone_library), "train", TASK, TASK.config_type())
    for part in (
        "'train' of clicks, tones",
        "has notes of an instrument that task 'pianoroll' knows",
        "come with notes",
    ):
        assert part in str(raised.value)


def test_an_instrument_without_an_example_is_named(band_library):
    config = config_of({"instruments": ("bass", "bagpipe", "piano")})
    lines = missing_examples(Library.open(band_library), TASK, config)
    assert len(lines) == 3
    assert all("bagpipe" in line for line in lines)
    assert lines[0].startswith("no training song has: ")


def test_a_set_of_which_no_instrument_has_an_example(band_library):
    with pytest.raises(UserError, match=r"no song of the split 'train' .* has notes of an instrument that task"):
        missing_examples(Library.open(band_library), TASK, config_of({"instruments": ("bagpipe", "shanai")}))


def test_rare_weights_of_an_instrument_that_never_plays(band_library):
    """It has no share, weighs as others do, and is named before training; nothing becomes infinite."""
    config = config_of({"instruments": ("bass", "bagpipe", "piano"), "loss.class_weights": "rare"})
    index = build_index(Library.open(band_library), "train", TASK, config)
    shares = active_shares(index, 3)
    assert shares[1] == 0
    assert shares.sum() == pytest.approx(1)
    settled = TASK.settled(config, lambda: index, gpu=False)
    assert settled.loss.class_shares == pytest.approx(tuple(shares))
    weights = rarity_weights(settled.loss.class_shares)
    assert weights[1] == 1
    assert np.isfinite(weights).all()


def test_shares_count_stems_of_one_class_that_play_together_once(band_library):
    """Moment by moment, on a grid of 10 ms: in which share of all sounding instruments' time each one sounds."""
    config = config_of({"instruments": ("piano", "bass", "guitar", "organ", "strings")})
    index = build_index(Library.open(band_library), "train", TASK, config)
    seconds, at = np.zeros(5), np.arange(0, 20, 0.01) + 0.005
    for song in range(len(index.songs)):
        on = np.zeros((5, len(at)), dtype=bool)
        for stem in range(*index.song_stems[song : song + 2]):
            for (onset, offset), label in zip(index.notes_of(stem)[0], index.notes_of(stem)[2], strict=True):
                on[label] |= (at >= onset) & (at < offset)
        seconds += on.sum(axis=1)
    np.testing.assert_allclose(active_shares(index, 5), seconds / seconds.sum(), atol=5e-3)
