"""Where the notes of a MIDI file are heard in a recording: dynamic time warping (DTW) of chroma.

Of the recording the constant-Q chroma is taken, of the notes the chroma they would have; both in frames that divide
what sounds, from the first note to the end of the last, into the same number of parts. So a recording that is played
faster or slower throughout lies on the diagonal, and the steps off it follow the player. Two frames are as far apart as
the cosine of their chroma says, and a little more if other pitch classes begin there: chroma alone tells badly when.

Sources: Ewert, Müller and Grosche, "High resolution audio synchronization using chroma onset features" (ICASSP 2009),
for the onsets; Raffel and Ellis, "Optimizing DTW-based audio-to-MIDI alignment and matching" (ICASSP 2016), for steps
off the diagonal that cost a share of the median distance, and for a mean distance on the path over that of any two
frames as the measure of whether a pair matches. They tune on CQT spectra; the weights here are ours, the best of some
tried on 14 of the 26 pieces of `benchmarks/alignment.py`.

Conventions: times in s; chroma of shape ``(12, frame)``, pitch classes from C.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import soxr

from timbrel.errors import UserError
from timbrel.sources.base import Note
from timbrel.sources.soundfont import DRUMS, until

SAMPLE_RATE_HZ = 22_050
HOP = 1024
"""Samples between frames: 46 ms, or twice that and so on in recordings of more than ``MOST_FRAMES``."""
MOST_FRAMES = 4096
"""What is aligned at once: 3 min 10 s at 46 ms. The matrices then take 0.33 GB."""

MOST_STRETCH = 2.0
"""By which a recording may be longer or shorter than its MIDI file, where that is more than ``FREE_S``."""
FREE_S = 10.0
CHEAPER = 0.05
"""By how much less one of them may cost without its end, where the other is ``FREE_S`` shorter. With 9 pieces of
`benchmarks/alignment.py` it was 0.01 at most if both are whole, and 0.07 to 0.22 if one lacks its last third."""

_BINS = 12
"""Constant-Q bins an octave: more would tell neighbours better apart, but smear their times more."""
_QUIETEST_DB = 60.0
"""Below the loudest; less is silence."""
_ONSETS = 0.3
"""Weight of onsets against chroma."""
_STEP = 0.3
"""What a step off the diagonal costs, in median distances of two frames."""
_FIFTH = 7
_TINY = 1e-9
_COMPRESSION = 100.0
"""Of chroma of which the increase is an onset: soft notes begin, too."""


@dataclass(frozen=True)
class Alignment:
    """Which time of the recording each time of the MIDI file is."""

    midi_s: np.ndarray
    """Strictly increasing; shape ``(point,)``."""
    audio_s: np.ndarray
    """Strictly increasing; shape ``(point,)``."""
    cost: float
    """Mean distance of the chroma of frames that were matched, over that of any two: 0 if alike, 1 as by chance. Frames
    without a pitched note don't count."""

    @property
    def heard_s(self) -> float:
        """From where the recording begins to sound until it is silent."""
        return float(self.audio_s[-1] - self.audio_s[0])

    def warp(self, notes: Sequence[Note]) -> tuple[Note, ...]:
        """Return ``notes`` at the times of the recording."""
        onsets, offsets = (
            np.interp([getattr(note, name) for note in notes], self.midi_s, self.audio_s)
            for name in ("onset_s", "offset_s")
        )
        return tuple(
            note._replace(onset_s=float(onset), offset_s=float(offset))
            for note, onset, offset in zip(notes, onsets, offsets, strict=True)
        )


def align(audio: np.ndarray, sample_rate: int, notes: Sequence[Note]) -> Alignment:
    """Find out where ``notes`` are heard in ``audio``.

    Args:
        audio: of shape ``(channel, sample)``.
        sample_rate: Hz.
        notes: those of drums (program 128) do not count, as they have no pitch class.

    Raises:
        UserError: there is no pitched note, or the recording is silent; the message does not say which recording.
    """
    import librosa  # here, as it takes a second that `timbrel list sources` need not wait for

    if all(note.program == DRUMS for note in notes):
        raise UserError("its MIDI file holds no pitched note: nothing can be aligned by pitch.")
    mono = soxr.resample(audio.mean(axis=0), sample_rate, SAMPLE_RATE_HZ)
    if not mono.any():
        raise UserError("the recording is silent: nothing can be aligned.")
    mono, (first, _) = librosa.effects.trim(mono, top_db=_QUIETEST_DB)
    hop = HOP
    while len(mono) / hop > MOST_FRAMES:
        hop *= 2
    heard = librosa.feature.chroma_cqt(y=mono, sr=SAMPLE_RATE_HZ, hop_length=hop, norm=None, bins_per_octave=_BINS)
    frames = heard.shape[1]
    begin = min(note.onset_s for note in notes)
    midi_hop_s = written_seconds(notes) / frames
    written = chroma_of_notes(notes, begin, midi_hop_s, frames)
    by_chroma = np.maximum(1 - _of_length_1(written).T @ _of_length_1(heard), 0)
    distance = by_chroma + _ONSETS * _distances(_onsets(written), _onsets(heard))
    step = _STEP * float(np.median(distance))
    _, path = librosa.sequence.dtw(
        C=distance, step_sizes_sigma=np.array([[1, 1], [1, 0], [0, 1]]), weights_add=np.array([0, step, step])
    )
    path = path[::-1]
    pitched = written.sum(axis=0) > 0
    matched = path[pitched[path[:, 0]]]
    cost = by_chroma[matched[:, 0], matched[:, 1]].mean() / max(by_chroma[pitched].mean(), _TINY)
    # Only where both go on is it known which time is which. One frame beyond either end: notes fill their frames.
    both = np.concatenate([[True], (np.diff(path, axis=0) == 1).all(axis=1)])
    points = np.concatenate([[[-1, -1]], path[both], [[frames, frames]]])
    return Alignment(
        midi_s=begin + points[:, 0] * midi_hop_s,
        audio_s=(first + points[:, 1] * hop) / SAMPLE_RATE_HZ,
        cost=float(cost),
    )


def check_ends(audio: np.ndarray, sample_rate: int, notes: Sequence[Note], alignment: Alignment) -> None:
    """Refuse ``notes`` that go on when the recording has ended, or end before it does.

    The shorter of them is aligned to as much of the other, at the tempo that is written: if that costs clearly less
    than the whole, the rest is not of the same music.

    Raises:
        UserError: one of them lacks its end; the message does not say of which recording.
    """
    written_s, heard_s = written_seconds(notes), alignment.heard_s
    if abs(written_s - heard_s) <= FREE_S:
        return
    common_s, begin_s = min(written_s, heard_s), max(float(alignment.audio_s[0]), 0.0)
    part = audio[:, round(begin_s * sample_rate) : round((begin_s + common_s) * sample_rate)]
    first_s = min(note.onset_s for note in notes)
    try:
        cost = align(part, sample_rate, until(notes, first_s + common_s)).cost
    except UserError:  # it holds nothing to align
        return
    if cost < alignment.cost - CHEAPER:
        longer, shorter = ("MIDI file", "recording") if written_s > heard_s else ("recording", "MIDI file")
        raise UserError(
            f"its {longer} seems to go on for {abs(written_s - heard_s):.0f} s after its {shorter} has ended: cut the "
            "longer one, or give both whole."
        )


def written_seconds(notes: Sequence[Note]) -> float:
    """Return how long ``notes`` last together, from the first to the end of the last."""
    return max(note.offset_s for note in notes) - min(note.onset_s for note in notes)


def check_lengths(notes: Sequence[Note], heard_s: float) -> None:
    """Refuse notes that no player would stretch to ``heard_s``.

    Raises:
        UserError: they last more than ``MOST_STRETCH`` times as long, or as short; the message does not say which.
    """
    written_s = written_seconds(notes)
    shorter, longer = sorted((written_s, heard_s))
    if longer > MOST_STRETCH * shorter and longer > shorter + FREE_S:
        raise UserError(
            f"the recording lasts {heard_s:.0f} s and the notes of its MIDI file {written_s:.0f} s: is it the same "
            "version of the same piece, and the MIDI file's tempo right?"
        )


def chroma_of_notes(notes: Sequence[Note], begin_s: float, hop_s: float, frames: int) -> np.ndarray:
    """Return the energy of each pitch class, float32 of shape ``(12, frame)``, as ``notes`` have it, but drums.

    A note sounds as loud as its velocity, and at a third of that where its third partial is heard, a fifth higher. It
    is in the frames whose middle it sounds in, and in one at least.
    """
    chroma = np.zeros((12, frames), np.float32)
    for note in notes:
        if note.program != DRUMS:
            start = min(math.ceil((note.onset_s - begin_s) / hop_s), frames - 1)
            stop = max(math.ceil((note.offset_s - begin_s) / hop_s), start + 1)
            chroma[note.pitch % 12, start:stop] += note.velocity
            chroma[(note.pitch + _FIFTH) % 12, start:stop] += note.velocity / 3
    return chroma


def _of_length_1(chroma: np.ndarray) -> np.ndarray:
    """Return columns of length 1, with a thirteenth row for those that are silent."""
    length = np.linalg.norm(chroma, axis=0)
    silent = length <= length.max() * 10 ** (-_QUIETEST_DB / 20)
    unit = np.where(silent, 0, chroma / np.where(silent, 1, length))
    return np.concatenate([unit, silent[np.newaxis]]).astype(np.float32)


def _onsets(chroma: np.ndarray) -> np.ndarray:
    """Return how much louder each pitch class got, of shape ``(12, frame)``; strong onsets have length 1."""
    loudness = np.log1p(_COMPRESSION * chroma / max(chroma.max(), _TINY))
    rise = np.maximum(np.diff(loudness, axis=1, prepend=0), 0)
    strong = np.percentile(np.linalg.norm(rise, axis=0), 95)
    return (rise / max(strong, _TINY)).astype(np.float32)


def _distances(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Return the Euclidean distance of every column to every column."""
    squares = (ours**2).sum(axis=0)[:, np.newaxis] + (theirs**2).sum(axis=0) - 2 * ours.T @ theirs
    return np.sqrt(np.maximum(squares, 0))
