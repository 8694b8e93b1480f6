"""What the planner and the renderer need to know of a catalogue, as flat arrays.

A library of hundreds of thousands of songs is shared by every mixing actor of a node through one copy in Ray's object
store: NumPy and Arrow buffers are mapped there, not decoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from timbrel import activity
from timbrel.errors import UserError
from timbrel.library import Library
from timbrel.mixing.recipe import Effect, Recipe
from timbrel.mixing.sides import check_sides, left_out
from timbrel.mixing.stem_notes import stem_notes
from timbrel.overlap import some
from timbrel.settings import Data, Experiment
from timbrel.splits import name_hash
from timbrel.tags import judged_songs

if TYPE_CHECKING:
    from timbrel.task import Task


NAMED = 15
"""Classes that ``missing_examples`` names: all of the multi-instrument task's, few of tagging's."""


@dataclass(frozen=True)
class StemIndex:
    """The stems of one split, grouped by song and data set.

    Songs of data set ``d`` are ``dataset_songs[d]:dataset_songs[d + 1]``; stems of song ``s`` are
    ``song_stems[s]:song_stems[s + 1]``; the times at which stem ``t`` sounds are
    ``active[active_rows[t]:active_rows[t + 1]]``.
    """

    root: str
    """The library."""
    datasets: tuple[str, ...]
    songs: pa.Array
    """Names, ``(song,)``."""
    dataset_songs: np.ndarray
    """int64, ``(dataset + 1,)``."""
    song_stems: np.ndarray
    """int64, ``(song + 1,)``."""
    paths: pa.Array
    """Relative to the library, ``(stem,)``."""
    names: pa.Array
    """The data set's words for the instruments, ``(stem,)``."""
    sample_rates: np.ndarray
    """Hz, int32, ``(stem,)``."""
    frames: np.ndarray
    """Samples a channel, int64, ``(stem,)``."""
    labels: np.ndarray
    """bool, ``(stem, class)``; after the task's classes there may be more columns, see ``Task.stem_labels``."""
    active_rows: np.ndarray
    """int64, ``(stem + 1,)``."""
    active: np.ndarray
    """Start and end in s, float32, ``(interval, 2)``."""
    variants: tuple[tuple[float, float], ...] = ()
    """Semitones and rate of each variant in the bank; empty where the recipe uses none."""
    class_rows: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int64))
    """int64, ``(class, dataset + 1)``; empty where the recipe balances nothing. See ``class_songs``."""
    class_songs: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int32))
    """Songs that have class ``c`` and are of data set ``d``: ``class_songs[class_rows[c, d]:class_rows[c, d + 1]]``;
    int32."""
    whole_songs: bool = False
    """Whether labels are said of whole songs: they hold for every part, silence included."""
    judged: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), dtype=bool))
    """Whether anybody judged it, bool ``(stem, class)``; empty where everything was."""
    note_rows: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """int64, ``(stem + 1,)``; empty where the task has no use for notes. Those of stem ``t`` are
    ``note_times[note_rows[t]:note_rows[t + 1]]``, and so on."""
    note_times: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), dtype=np.float32))
    """Onset and offset in s, float32, ``(note, 2)``."""
    note_pitches: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.uint8))
    """MIDI note numbers, uint8, ``(note,)``."""
    note_classes: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int16))
    """int16, ``(note,)``."""
    window_songs: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """The song of each example where examples are windows of whole songs, int64 ``(window,)``; empty where they are
    drawn."""
    window_starts: np.ndarray = field(default_factory=lambda: np.zeros(0))
    """When each window starts in its song, in s, float64 ``(window,)``."""

    @property
    def has_notes(self) -> bool:
        """Return whether the notes of the stems are known, where there are any."""
        return len(self.note_rows) > 0

    @property
    def known_classes(self) -> np.ndarray:
        """Return the classes that some song has, by number."""
        return np.flatnonzero(self.class_rows[:, -1] > self.class_rows[:, 0])

    def nearest_variant(self, semitones: float, rate: float) -> int:
        """Return the variant of the same kind (other pitch, other speed, both) that comes nearest."""
        there = np.array(self.variants)
        same = (there[:, 0] != 0) == (semitones != 0), (there[:, 1] != 1) == (rate != 1)
        # A semitone counts as much as a speed that would change the pitch by one, were it a tape's.
        distance = np.hypot(there[:, 0] - semitones, 12 * np.log2(there[:, 1] / rate))
        return int(np.argmin(np.where(same[0] & same[1], distance, np.inf)))

    def active_of(self, stem: int) -> np.ndarray:
        """Return when a stem sounds: start and end in s, float64 ``(interval, 2)``."""
        return self.active[self.active_rows[stem] : self.active_rows[stem + 1]].astype(np.float64)

    def notes_of(self, stem: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return a stem's notes: onset and offset in s, float64 ``(note, 2)``, pitch and class, int64 ``(note,)``."""
        rows = slice(self.note_rows[stem], self.note_rows[stem + 1])
        pitches, classes = (values[rows].astype(np.int64) for values in (self.note_pitches, self.note_classes))
        return self.note_times[rows].astype(np.float64), pitches, classes

    def examples(self, wanted: int) -> int:
        """Return how many of the wanted examples there are: drawn ones without end, of windows so many; 0: all."""
        there = len(self.window_songs) or wanted
        return min(wanted or there, there)

    def seconds_of(self, stem: int) -> float:
        """Return the length of a stem in s."""
        return float(self.frames[stem] / self.sample_rates[stem])

    def song_of(self, stem: int) -> int:
        """Return the row of the song that a stem belongs to."""
        return int(np.searchsorted(self.song_stems, stem, side="right")) - 1

    def dataset_of(self, song: int) -> str:
        """Return the name of the data set that a song belongs to."""
        return self.datasets[int(np.searchsorted(self.dataset_songs, song, side="right")) - 1]

    def song_names(self) -> list[tuple[str, str]]:
        """Return data set and name of every song."""
        counts = np.diff(self.dataset_songs)
        return list(zip(np.repeat(np.array(self.datasets), counts).tolist(), self.songs.to_pylist(), strict=True))

    def songs_with(self, label: int) -> np.ndarray:
        """Return the songs that have a class, in order."""
        stems = np.flatnonzero(self.labels[:, label])
        return np.unique(np.searchsorted(self.song_stems, stems, side="right") - 1)


def build_index(library: Library, split: str, task: Task, config: Experiment) -> StemIndex:
    """Return the index of a split as a task sees it.

    Stems that count for no class are left out: sound that no label speaks of would teach that it is nothing. So are
    songs with none of the tags that a task asks for, as in the published splits of tagged data sets; where not every
    song was judged on every tag, those that were judged on none.

    Raises:
        UserError: an unknown data set, no song is left in the split, or songs are on two sides (see ``check_sides``).
    """
    recipe, data = config.mixing, config.data
    datasets = data.datasets_of(split)
    columns = [
        "dataset",
        "song",
        "group",
        "stem",
        "path",
        "instrument",
        "program",
        "sample_rate",
        "frames",
        "split",
    ]
    table = library.catalogue(datasets, columns)
    table = table.append_column("row", pa.array(np.arange(len(table))))
    table = table.filter(pa.compute.equal(table["split"], split))
    table = table.filter(pa.array(_chosen(table, data)))
    if data.overlaps == "leave_out":
        table = table.filter(pa.array(_kept(table, left_out(library, data))))
    elif split == "test":
        check_sides(library, data)
    labels, judged, whole_songs = _labels(table, library, task, config)
    notes = stem_notes(table, library, lambda programs: task.note_classes(programs, config))
    if notes is not None:
        labels = notes.labels(labels.shape[1])
    kept = np.asarray(labels.any(axis=1) if judged is None else judged.any(axis=1))
    table, labels = table.filter(pa.array(kept)), labels[kept]
    if not len(table):
        where = ", ".join(datasets or library.datasets)
        what, listed = ("a tag", "vocabulary") if whole_songs else ("an instrument", "instruments")
        what, more = (f"notes of {what}", "songs that come with notes") if notes is not None else (what, "more songs")
        raise UserError(
            f"no song of the split '{split}' of {where} in {library.root} has {what} that task '{task.name}' knows: "
            f"prepare {more}, widen data.songs_from..songs_to, or see `{listed}` in the data set's dataset.json."
        )
    new_dataset, new_song = _new(table, "dataset"), _new(table, "dataset", "song")
    first_stems = np.flatnonzero(new_song)
    known = tuple(table["dataset"].take(pa.array(np.flatnonzero(new_dataset))).to_pylist())
    active, active_rows = _active(library, datasets, table["row"].to_numpy(), recipe)
    index = StemIndex(
        root=str(library.root),
        datasets=known,
        songs=table["song"].take(pa.array(first_stems)).combine_chunks(),
        dataset_songs=np.append(np.flatnonzero(new_dataset[first_stems]), len(first_stems)),
        song_stems=np.append(first_stems, len(table)),
        paths=table["path"].combine_chunks(),
        names=table["instrument"].combine_chunks(),
        sample_rates=table["sample_rate"].to_numpy(),
        frames=table["frames"].to_numpy(),
        labels=labels,
        active_rows=active_rows,
        active=active,
        variants=_variants(library, set(known), recipe),
        whole_songs=whole_songs,
        **({} if judged is None else {"judged": judged[kept]}),
        **(notes.of_stems(kept) if notes is not None else {}),
    )
    return with_class_songs(index) if recipe.class_balance else index


def evaluation_index(library: Library, split: str, task: Task, config: Experiment) -> StemIndex:
    """Return the index that validation or test examples are taken from.

    Raises:
        UserError: the split has no song.
    """
    index = build_index(library, split, task, config)
    if config.evaluation.windows == "drawn":
        return index
    return with_windows(index, config.mixing.seconds, config.evaluation.seed)


def with_windows(index: StemIndex, seconds: float, seed: int) -> StemIndex:
    """Return the index for examples that are all songs cut into windows of ``seconds``, in random order.

    So the first so many are a fair sample of all, and all of them are whole songs. A rest shorter than a window is left
    out, as the pianoroll paper does; a song shorter than one is a window all the same.
    """
    lengths = index.frames[index.song_stems[:-1]] / index.sample_rates[index.song_stems[:-1]]
    counts = np.maximum(1, (lengths / seconds + 1e-6).astype(np.int64))
    songs = np.repeat(np.arange(len(counts)), counts)
    numbers = np.arange(len(songs)) - np.repeat(np.cumsum(counts) - counts, counts)
    order = np.random.default_rng(seed).permutation(len(songs))
    return replace(index, window_songs=songs[order], window_starts=numbers[order] * seconds)


def _labels(
    table: pa.Table, library: Library, task: Task, config: Experiment
) -> tuple[np.ndarray, np.ndarray | None, bool]:
    """Return which classes each row of the catalogue counts for, which it was judged on (None: all), both bool
    ``(stem, class)``, and whether that is said of the whole song."""
    new_song = _new(table, "dataset", "song")
    rows = pa.array(np.flatnonzero(new_song))
    songs = list(zip(*(table[name].take(rows).to_pylist() for name in ("dataset", "song")), strict=True))
    of_songs = task.song_labels(judged_songs(library, songs), config)
    if of_songs is not None:
        of_rows = of_songs[np.cumsum(new_song) - 1]
        unknown = np.isnan(of_rows)
        return np.where(unknown, 0, of_rows).astype(bool), ~unknown if unknown.any() else None, True
    # A million stems have some hundred different instruments between them.
    words = table["instrument"].combine_chunks().dictionary_encode()
    programs = table["program"].fill_null(-1).to_numpy().astype(np.int16)
    kinds = np.asarray(words.indices).astype(np.int64) << 16 | programs.view(np.uint16)
    _, firsts, kind_of = np.unique(kinds, return_index=True, return_inverse=True)
    instruments = table["instrument"].take(pa.array(firsts)).to_pylist()
    return task.stem_labels(instruments, programs[firsts], config)[kind_of], None, False


def _new(table: pa.Table, *columns: str) -> np.ndarray:
    """Return where one of the columns has another value than in the row before, and in the first row: bool
    ``(row,)``."""
    new = np.zeros(len(table), dtype=bool)
    new[:1] = True
    for name in columns:
        values = table[name].combine_chunks()
        new[1:] |= pa.compute.not_equal(values[1:], values[:-1]).to_numpy(zero_copy_only=False)
    return new


def with_class_songs(index: StemIndex) -> StemIndex:
    """Add which songs have each class."""
    songs = [index.songs_with(label) for label in range(index.labels.shape[1])]
    begins = np.cumsum([0, *map(len, songs[:-1])])
    rows = np.stack(
        [begin + np.searchsorted(some, index.dataset_songs) for begin, some in zip(begins, songs, strict=True)]
    )
    return replace(index, class_rows=rows, class_songs=np.concatenate(songs).astype(np.int32))


def _variants(library: Library, datasets: set[str], recipe: Recipe) -> tuple[tuple[float, float], ...]:
    """Return the variants that all data sets have.

    Raises:
        UserError: the recipe needs a bank, and a data set has none, another one, or one with strengths that the recipe
            excludes.
    """
    needed = recipe.effects.pitch_shift.p or recipe.effects.time_stretch.p
    if recipe.stretch != "bank" or not needed:
        return ()
    banks = {name: library.bank(name) for name in sorted(datasets)}
    for name, variants in banks.items():
        if not variants:
            raise UserError(
                f"mixing.stretch=bank: data set '{name}' of {library.root} has no bank of variants: prepare it again "
                "with --bank, or choose mixing.stretch=fast."
            )
    if len(set(banks.values())) > 1:
        raise UserError(
            f"mixing.stretch=bank: the data sets {', '.join(banks)} of {library.root} have different banks: prepare "
            "them again with the same --bank, or choose mixing.stretch=fast."
        )
    variants = next(iter(banks.values()))
    semitones, rates = zip(*variants, strict=True)
    for name, strengths in (("pitch_shift", semitones), ("time_stretch", {*rates} - {1.0})):
        effect: Effect = getattr(recipe.effects, name)
        other = [strength for strength in strengths if not effect.allows(strength)]
        if effect.p and other:
            raise UserError(
                f"mixing.stretch=bank: the bank of {', '.join(banks)} in {library.root} has a variant of {other[0]:g}, "
                f"which is no multiple of mixing.effects.{name}.step ({effect.step:g}): prepare with another bank "
                "(--bank steps=2 semitones=-2,2 has whole semitones), or choose mixing.stretch=fast."
            )
    return variants


def missing_examples(library: Library, task: Task, config: Experiment) -> list[str]:
    """Return a line for each split that lacks examples of some classes: ``no training song has: singer, brass``.

    Before them, one that says how many songs are left out because they are on another side too.

    Raises:
        UserError: a split has no song at all.
    """
    away = left_out(library, config.data) if config.data.overlaps == "leave_out" else ()
    lines = [f"on a more held-out side too, and left out: {some([song for _, song in away])}"] if away else []
    for split, adjective in (("train", "training"), ("valid", "validation"), ("test", "test")):
        labels = build_index(library, split, task, config).labels
        classes = task.classes(config)
        known = [bool(labels[:, number].any()) for number in range(len(classes))]
        missing = [name for name, has_any in zip(classes, known, strict=True) if not has_any]
        if missing:
            more = f" and {len(missing) - NAMED} more of {len(known)} classes" if len(missing) > NAMED else ""
            lines.append(f"no {adjective} song has: {', '.join(missing[:NAMED])}{more}")
    return lines


def _chosen(table: pa.Table, data: Data) -> np.ndarray:
    """Return which rows belong to the share of songs that ``data`` asks for: bool, ``(row,)``.

    Counted by group, so that renderings of one composition stay together; in an order of hashes, so that a share is a
    fair sample and adding ``songs_from..songs_to`` ranges up gives every song once.
    """
    chosen = np.ones(len(table), dtype=bool)
    if (data.songs_from, data.songs_to) == (0, 1):
        return chosen
    for dataset in table["dataset"].unique().to_pylist():
        rows = np.flatnonzero(pa.compute.equal(table["dataset"], dataset))
        groups = table["group"].take(pa.array(rows)).combine_chunks().dictionary_encode()
        names = groups.dictionary.to_pylist()
        order = sorted(range(len(names)), key=lambda number: name_hash("share", dataset, names[number]))
        within = np.zeros(len(names), dtype=bool)
        within[order[round(data.songs_from * len(names)) : round(data.songs_to * len(names))]] = True
        chosen[rows] = within[np.asarray(groups.indices)]
    return chosen


def _kept(table: pa.Table, without: frozenset[tuple[str, str]]) -> np.ndarray:
    """Return which rows are of other songs, by data set and name: bool, ``(row,)``."""
    names = zip(table["dataset"].to_pylist(), table["song"].to_pylist(), strict=True)
    return np.array([name not in without for name in names], dtype=bool)


def _active(
    library: Library, datasets: Sequence[str], rows: np.ndarray, recipe: Recipe
) -> tuple[np.ndarray, np.ndarray]:
    """Return when the stems of some rows of the catalogue, rising, sound: see ``StemIndex``."""
    pieces, counts, first = [np.zeros((0, 2), dtype=np.float32)], [np.zeros(1, dtype=np.int64)], 0
    for batch in library.activity(datasets):
        wanted = rows[slice(*np.searchsorted(rows, (first, first + len(batch))))] - first
        first += len(batch)
        of_stems = batch.take(pa.array(wanted))
        hops_s = of_stems["activity_hop"].to_numpy() / of_stems["sample_rate"].to_numpy()
        values = of_stems["activity"]
        piece, count = activity.stem_intervals(
            values.values.to_numpy(), values.offsets.to_numpy(), hops_s, recipe.active_confidence
        )
        pieces.append(piece)
        counts.append(count)
    return np.concatenate(pieces), np.cumsum(np.concatenate(counts))
