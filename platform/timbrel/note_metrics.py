"""Transcription by notes: how many of the notes that are played a roll gets right.

Frames say when a pitch sounds; they hardly notice a repeated note that is heard as one long one. Notes do.
They are read off a roll by ``notes_of`` and compared by ``note_f1``; ``evaluate_notes`` does both for a whole
split. Matching takes seconds to minutes: do it once, at the end (the figures of ``timbrel.transcription``
are for every epoch).

Conventions
-----------
A note has an onset and an offset in seconds from the beginning of its example, and a pitch. In ``notes_of``
the pitch is a row of the roll, in ``note_f1`` a MIDI number (60 = middle C; fractions allowed). Notes of an
example are matched with notes of the same example, each with one at most, and with as many as possible
(``mir_eval.transcription.match_notes``). Two notes match if

* *onset*: their pitches are within a quarter tone and their onsets within 50 ms,
* *onset_offset*: besides, their offsets are within 50 ms or 20 % of the true note's length, whichever is more.

On a grid of 64 ms two onsets are within 50 ms only if they are in the same frame, where true notes and
estimates are both read off a roll. Then a note repeated without a gap is one note in either: rolls do not tell.

*Undefined is NaN, never 0 or 1.* Without a true note there is no F1, whatever was predicted; with true notes
and none predicted it is 0. *Micro* pools the notes of all examples; its false notes include those of classes
that are silent. *Per song* is the mean over songs, or over the pairs (song, class) where classes must agree, of
those with true notes.

Metrics
-------
* Note F1, once by onset and once by onset and offset: instruments must agree (``note_f1``), or not
  (``pitch_note_f1``: notes of the pitch roll, in which instruments on one pitch are one note).

References
----------
M. Bay, A. F. Ehmann and J. S. Downie, "Evaluation of multiple-F0 estimation and tracking systems", ISMIR 2009.
C. Raffel, B. McFee, E. J. Humphrey, J. Salamon, O. Nieto, D. Liang and D. P. W. Ellis, "mir_eval: a transparent
implementation of common MIR metrics", ISMIR 2014.
"""

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
from mir_eval.transcription import match_notes
from mir_eval.util import midi_to_hz

from timbrel import metrics
from timbrel.mixing.rolls import NoteArrays, notes_of
from timbrel.transcription import Scores, Thresholds, validate

CRITERIA: dict[str, float | None] = {"onset": None, "onset_offset": 0.2}
"""Share of the true note's length that its offset may be missed by, by criterion; None leaves offsets out."""
LOWEST_PITCH = 21
"""MIDI number of the first row of a roll: A0, the lowest key of a piano."""


def note_counts(reference: NoteArrays, estimate: NoteArrays, offset_ratio: float | None) -> tuple[int, int, int]:
    """Return how many notes match, how many are true and how many estimated; pitches are MIDI numbers.

    ``offset_ratio`` is one of ``CRITERIA``.
    """
    for notes in (reference, estimate):
        _check_notes(notes)
    matched = 0
    if len(reference.pitch) and len(estimate.pitch):
        (true_spans, true_hz), (spans, hz) = _as_mir_eval(reference), _as_mir_eval(estimate)
        matched = len(match_notes(true_spans, true_hz, spans, hz, offset_ratio=offset_ratio))
    return matched, len(reference.pitch), len(estimate.pitch)


def note_f1(
    reference: Sequence[NoteArrays], estimate: Sequence[NoteArrays], groups: Sequence[Hashable] | None = None
) -> dict[str, float]:
    """Return the F1 by ``onset`` and ``onset_offset``, micro, and as a mean over groups: ``onset_per_song``.

    Item ``n`` of ``reference`` is compared with item ``n`` of ``estimate``, and nothing else: items are
    examples, or one class of an example where classes must agree. Pitches are MIDI numbers. ``groups`` names
    the group of each item, by default a group each; the counts of a group's items are added before its F1 is
    taken: say, (song, class).
    """
    if len(reference) != len(estimate):
        raise ValueError(f"expected as many true items as estimated ones, got {len(reference)} and {len(estimate)}")
    if groups is not None and len(groups) != len(reference):
        raise ValueError(f"expected a group for each of {len(reference)} items, got {len(groups)}")
    return _summary(_counts(reference, estimate), range(len(reference)) if groups is None else groups)


def evaluate_notes(
    targets: np.ndarray,
    scores: Scores,
    thresholds: Thresholds,
    songs: Sequence[str] | np.ndarray,
    classes: Sequence[str],
    frame_s: float,
    gap: int = 0,
    shortest: int = 1,
) -> dict[str, float]:
    """Return the metrics of notes by name: ``note_f1_onset``, ``pitch_note_f1_onset_offset_per_song``.

    The arguments are those of ``timbrel.transcription.evaluate``; true notes are read off ``targets``, and
    estimated ones off the decisions of the roll and of the pitch roll, the latter cleaned as ``notes_of`` says.
    ``note_f1_onset/<class>`` is micro. Undefined metrics are in the dictionary as NaN, so its keys depend on
    ``classes`` alone.
    """
    validate(targets, scores, thresholds, songs, classes, frame_s)
    examples, count, pitches, frames = targets.shape

    def notes(rolls: np.ndarray, gap: int = 0, shortest: int = 1) -> list[NoteArrays]:
        found = (notes_of(roll, frame_s, gap, shortest) for roll in rolls.reshape(-1, pitches, frames))
        return [one._replace(pitch=one.pitch + LOWEST_PITCH) for one in found]

    decisions = scores.roll >= np.float64(thresholds.roll)
    counts = _counts(notes(targets), notes(decisions, gap, shortest))
    pairs = [(song, name) for song in songs for name in classes]
    result = {f"note_f1_{name}": value for name, value in _summary(counts, pairs).items()}

    decisions = scores.pitch >= np.float64(thresholds.pitch)
    pitch_counts = _counts(notes(np.asarray(targets.any(axis=1))), notes(decisions, gap, shortest))
    result |= {f"pitch_note_f1_{name}": value for name, value in _summary(pitch_counts, songs).items()}

    of_classes = counts.reshape(examples, count, len(CRITERIA), 3).sum(axis=0)
    for name, of_class in zip(classes, of_classes, strict=True):
        for criterion, row in zip(CRITERIA, of_class, strict=True):
            result[f"note_f1_{criterion}/{metrics.metric_name(name)}"] = _f1(row)
    return result


def _counts(reference: Sequence[NoteArrays], estimate: Sequence[NoteArrays]) -> np.ndarray:
    """Return ``note_counts`` of each pair and criterion, ``(item, criterion, 3)``."""
    counts = [
        [note_counts(true, found, ratio) for ratio in CRITERIA.values()]
        for true, found in zip(reference, estimate, strict=True)
    ]
    return np.array(counts, dtype=np.int64).reshape(len(counts), len(CRITERIA), 3)


def _summary(counts: np.ndarray, groups: Iterable[Hashable]) -> dict[str, float]:
    """Return the F1 of all counts ``(item, criterion, 3)`` together, and the mean F1 of the groups."""
    of_groups: dict[Hashable, np.ndarray] = {}
    for group, item in zip(groups, counts, strict=True):
        of_groups[group] = of_groups.get(group, 0) + item
    result = {}
    for i, criterion in enumerate(CRITERIA):
        result[criterion] = _f1(counts[:, i].sum(axis=0))
        result[f"{criterion}_per_song"] = metrics.macro(np.array([_f1(group[i]) for group in of_groups.values()]))
    return result


def _f1(counts: np.ndarray) -> float:
    """Return the F1 of counts ``(3,)`` of matched, true and estimated notes; NaN without a true one."""
    matched, true, estimated = counts
    return float(2 * matched / (true + estimated)) if true else float("nan")


def _as_mir_eval(notes: NoteArrays) -> tuple[np.ndarray, np.ndarray]:
    """Return the spans ``(note, 2)`` in seconds and the pitches ``(note,)`` in Hz."""
    return np.column_stack([notes.onset_s, notes.offset_s]), midi_to_hz(notes.pitch)


def _check_notes(notes: NoteArrays) -> None:
    """Raise ``ValueError`` unless the columns are of one length and every note ends after it begins."""
    shapes = {np.shape(column) for column in notes}
    if len(shapes) != 1 or len(shapes.pop()) != 1:
        raise ValueError(f"expected notes in columns (note,) of one length, got {[np.shape(c) for c in notes]}")
    if not (all(np.isfinite(column).all() for column in notes) and (notes.offset_s > notes.onset_s).all()):
        raise ValueError("expected finite notes that end after they begin")
