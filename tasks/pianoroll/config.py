"""The config of task pianoroll: the paper's values as defaults, and presets."""

import math
from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt

from tasks.pianoroll.instruments import NINE, check_instruments
from tasks.pianoroll.losses import LossConfig
from tasks.pianoroll.model import UNetConfig, check_input
from timbrel.cqt import CqtConfig, check_cqt
from timbrel.mixing.recipe import Recipe, whole_song
from timbrel.mixing.rolls import RollGrid
from timbrel.settings import Evaluation, Experiment, Training

SONGS = whole_song(sample_rate=16_000, seconds=10.0)
"""10 s of a song as it is, at any time (paper: cut into such segments), without stems of other instruments."""

LOWEST_HZ, LOWEST_HZ_KEY = 27.5, 21
"""Of the paper's transform, which begins at the lowest key of a piano: A0."""
SEMITONES = 12
IN_TUNE = 0.01
"""Semitones by which f_min may lie beside a note."""


@dataclass(frozen=True, kw_only=True)
class RollEvaluation(Evaluation):
    """How a model is judged: on whole songs, window by window."""

    truth: Literal["notes", "activity"] = "notes"
    """notes: what is true is read off the notes of the songs. activity: of libraries that don't know their notes, it is
    when the stems sound, so that instruments alone are judged, in songs as they are, with whatever else plays in them;
    for `timbrel evaluate`, as nothing can be learned from it."""
    windows: Literal["drawn", "whole_songs"] = "whole_songs"
    """drawn: 10 s of random songs at random times. whole_songs: all songs cut into windows (paper); a rest shorter than
    a window is left out."""
    valid_examples: Annotated[int, Ge(0)] = 1800
    """Windows of the validation split, a random sample; 0: all. The paper has no validation."""
    test_examples: Annotated[int, Ge(0)] = 1800
    """Windows of the test split, a random sample; 0: all (paper: 200 for each of nine instruments)."""
    roll_rule: Literal["fixed", "chosen"] = "fixed"
    """Where a probability of the pianoroll and of the pitch roll becomes a note: at ``roll_threshold`` and
    ``pitch_threshold``, or where the accuracy on validation is highest. Instruments have ``threshold_rule``; for theirs
    the paper gives no value."""
    roll_threshold: Annotated[float, Gt(0), Lt(1)] = 0.85
    """Of the pianoroll (the authors' code: 0.85)."""
    pitch_threshold: Annotated[float, Gt(0), Lt(1)] = 0.85
    """Of the pitch roll (the authors' code: 0.85)."""


@dataclass(frozen=True, kw_only=True)
class PianorollConfig(Experiment):
    """Config of task pianoroll; the defaults are the paper's, and its code's where it is silent.

    Of 100 epochs of 49,500 segments in batches of 8; plain SGD, since the authors' code makes its optimiser anew for
    every batch and so forgets the momentum; a third of the learning rate from epoch 70 on.
    """

    instruments: tuple[str, ...] = NINE
    """Names of the instruments: the paper's nine, any General MIDI program, or any of its 16 families."""
    mixing: Recipe = SONGS
    front_end: CqtConfig = field(default_factory=CqtConfig)
    pool: Annotated[int, Ge(1)] = 2
    """Frames of the front end in one of the pianoroll (paper: 2, which makes 64 ms)."""
    model: UNetConfig = field(default_factory=UNetConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    lr: Annotated[float, Ge(0)] = 0.005
    """Learning rate (paper: 0.005; the authors' code: 0.01). With training.optimizer=sgd of the loss added up over the
    batch, as the authors do; with adam, which takes no notice of the loss's scale, as it is."""
    weight_decay: Annotated[float, Ge(0)] = 1e-4
    """Of the whole network (the authors' code)."""
    training: Training = field(
        default_factory=lambda: Training(
            epochs=100,
            batches_per_epoch=6188,
            batch_size=8,
            optimizer="sgd",
            momentum=0.0,
            decay=1 / 3,
            decay_steps=1.43,
        )
    )
    evaluation: RollEvaluation = field(default_factory=RollEvaluation)

    def __post_init__(self) -> None:
        check_instruments(self.instruments)
        check_cqt(self.front_end, self.mixing.sample_rate)
        check_input(self.model, self.front_end.bins, self.fine_frames, self.pool)
        if self.mixing.channels != 1:
            raise ValueError(f"mixing.channels ({self.mixing.channels}) must be 1: the front end hears one channel")
        shift = self.mixing.effects.pitch_shift
        if shift.p and (not shift.step or shift.step % 1):
            raise ValueError(
                f"mixing.effects.pitch_shift.step ({shift.step:g}) must be a whole number of semitones where pitches "
                "are shifted (1, for instance): notes have no others"
            )
        _check_others(self.mixing.effects.others)
        if self.front_end.bins_per_octave != SEMITONES:
            raise ValueError(
                f"front_end.bins_per_octave ({self.front_end.bins_per_octave}) must be 12: a bin is a pitch of the "
                "pianoroll"
            )
        key = LOWEST_HZ_KEY + SEMITONES * math.log2(self.front_end.f_min / LOWEST_HZ)
        if abs(key - round(key)) > IN_TUNE or not 0 <= round(key) <= 128 - self.front_end.bins:
            raise ValueError(
                f"front_end.f_min ({self.front_end.f_min:g} Hz) and bins ({self.front_end.bins}) must be notes of "
                "MIDI: 27.5 Hz (A0) and 88 are a piano's"
            )

    @property
    def fine_frames(self) -> int:
        """Frames of the front end in an example; those that the pooling would leave over are dropped."""
        frames = self.front_end.frames(self.mixing.samples)
        return frames - frames % self.pool

    @property
    def lowest_key(self) -> int:
        """MIDI note number of the lowest bin."""
        return LOWEST_HZ_KEY + round(SEMITONES * math.log2(self.front_end.f_min / LOWEST_HZ))

    @property
    def grid(self) -> RollGrid:
        """Frames and pitches of the pianorolls."""
        return RollGrid(
            hop_s=self.front_end.hop / self.mixing.sample_rate,
            fine_frames=self.fine_frames,
            pool=self.pool,
            lowest=self.lowest_key,
            pitches=self.front_end.bins,
        )


def _check_others(transforms: tuple[str, ...]) -> None:
    """Raise ValueError if one of audiomentations' transforms moves notes: where to, its labels could not tell."""
    if not transforms:
        return
    from timbrel.mixing.effects import OUT_OF_TUNE_OR_TIME, named_transform  # takes a second to import

    for text in transforms:
        if type(named_transform(text)[0]).__name__ in OUT_OF_TUNE_OR_TIME:
            raise ValueError(
                f"mixing.effects.others ({text}) moves notes to where no label says they are: use "
                "mixing.effects.pitch_shift and time_stretch, whose labels move with them"
            )
