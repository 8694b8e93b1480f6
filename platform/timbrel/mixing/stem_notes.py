"""The notes of a catalogue's stems, joined and put in the order of its rows."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute

from timbrel.library import Library

UNKNOWN_PROGRAM = -1


@dataclass(frozen=True)
class StemNotes:
    """Notes of known classes, grouped by the stem that plays them."""

    stems: int
    stem: np.ndarray
    """Row in the catalogue, rising, int64 ``(note,)``."""
    times: np.ndarray
    """Onset and offset in s, float32 ``(note, 2)``."""
    pitches: np.ndarray
    """uint8 ``(note,)``."""
    classes: np.ndarray
    """int16 ``(note,)``."""

    def labels(self, classes: int) -> np.ndarray:
        """Return which classes have a note in which stem: bool ``(stem, class)``."""
        found = np.zeros((self.stems, classes), dtype=bool)
        found[self.stem, self.classes] = True
        return found

    def of_stems(self, kept: np.ndarray) -> dict[str, np.ndarray]:
        """Return the fields of an index that has only some of the stems, bool ``(stem,)``."""
        counts = np.bincount(self.stem, minlength=self.stems)
        rows = kept[self.stem]
        return {
            "note_rows": np.concatenate([[0], np.cumsum(counts[kept])]),
            "note_times": self.times[rows],
            "note_pitches": self.pitches[rows],
            "note_classes": self.classes[rows],
        }


def stem_notes(
    table: pa.Table, library: Library, note_classes: Callable[[np.ndarray], np.ndarray | None]
) -> StemNotes | None:
    """Return the notes of the catalogue's rows, None if the task has no use for them.

    Args:
        table: rows with ``dataset``, ``song``, ``stem`` and ``program``.
        library: that they are of.
        note_classes: classes of notes by their General MIDI program, -1: none; see ``Task.note_classes``.
    """
    if note_classes(np.zeros(0, dtype=np.int16)) is None:
        return None
    keys = zip(*(table[name].to_pylist() for name in ("dataset", "song", "stem")), strict=True)
    row_of = {key: row for row, key in enumerate(keys)}
    programs = table["program"].fill_null(UNKNOWN_PROGRAM).to_numpy()
    notes = library.notes(sorted(set(table["dataset"].to_pylist())))
    if not len(notes) or not len(table):
        return StemNotes(len(table), *_empty())
    # The table of notes is sorted by song and stem, so a stem's are one run of rows: names are looked up once a run.
    columns = [notes[name].combine_chunks().dictionary_encode() for name in ("dataset", "song", "stem")]
    codes = np.stack([np.asarray(column.indices) for column in columns])
    firsts = np.flatnonzero(np.append(True, (codes[:, 1:] != codes[:, :-1]).any(axis=0)))
    names = zip(*(column.take(pa.array(firsts)).to_pylist() for column in columns), strict=True)
    runs = np.array([row_of.get(key, -1) for key in names], dtype=np.int64)
    stem = np.repeat(runs, np.diff(np.append(firsts, len(notes))))
    of_note = notes["program"].fill_null(UNKNOWN_PROGRAM).to_numpy()
    own = np.where(of_note == UNKNOWN_PROGRAM, np.append(programs, UNKNOWN_PROGRAM)[stem], of_note)
    classes = note_classes(own.astype(np.int16))
    assert classes is not None
    kept = np.flatnonzero((stem >= 0) & (classes >= 0))
    kept = kept[np.argsort(stem[kept], kind="stable")]
    times = np.stack([notes["onset_s"].to_numpy(), notes["offset_s"].to_numpy()], axis=1).astype(np.float32)
    return StemNotes(
        len(table), stem[kept], times[kept], notes["pitch"].to_numpy()[kept], classes[kept].astype(np.int16)
    )


def _empty() -> tuple[np.ndarray, ...]:
    return np.zeros(0, np.int64), np.zeros((0, 2), np.float32), np.zeros(0, np.uint8), np.zeros(0, np.int16)
