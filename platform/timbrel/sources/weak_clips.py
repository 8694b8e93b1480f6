"""The source `weak_clips`: a prepared library with stems, cut into clips that are labelled as OpenMIC-2018's are.

    PATH/                  a library, as `timbrel prepare midi ... --library PATH` makes it
    ├── library.json
    └── midi/              its data set, or the one that --option dataset=NAME names; or give PATH/midi itself

A clip is the full mix, the sum of the song's stems in mono, of 10 s (`seconds`), one after the other from the song's
beginning; the rest at its end is not used. It keeps the song's split, group and artist, so that clips of a song stay
on one side. Whatever exceeds full scale is stored as float.

Tags are OpenMIC's 20 instruments, 1.0 where judged present, 0.0 where judged absent, as the stems' General MIDI
programs and activity say. Present: a stem of it sounds for `least_s` or longer in the clip. In doubt, and never judged:
it sounds for less, or what sounds may be taken for it (a viola for a violin; see timbrel.clip_labels). Absent:
otherwise. Instruments that are present nowhere in the data set (mandolin, ukulele and cymbals always, as no program
says so) are never judged, and neither are clips in which nothing sounds.

As in OpenMIC most is missing. In its test partition (5,085 clips) 4,517 present and 6,005 absent instruments are
judged, 0.888 and 1.181 a clip, 10.35 % of all. Here, of the n present instruments of a clip each is judged with
probability `judged_present` / n, at most 1, and the absent ones likewise, drawn by a hash of seed, song, clip and
instrument. Clips in which nobody judged anything are left out and counted: OpenMIC has none. So clips that stay have a
little more than was asked for. With `full_splits` a split is judged on everything that is not in doubt.

What differs from OpenMIC: there a model proposed what to ask listeners for, so that judged absences are those of
instruments that the model suspected, and rare instruments were looked for. Here they are random, which is easier, and
instruments are as frequent as the library has them. And labels are what was played, not what somebody heard.

To keep clips in the library that they are cut from, give the data set's folder (PATH/midi) and another --name: a folder
that gets the clips themselves would count as changed.

Licence: that of the library's data set.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PosixPath, WindowsPath
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
from annotated_types import Ge, Gt

from timbrel import activity
from timbrel.clip_labels import OPENMIC, openmic_of_programs, openmic_perhaps
from timbrel.errors import UserError
from timbrel.library import Library
from timbrel.sources.audio import AudioFile
from timbrel.sources.base import Found, Header, Performance, Skipped, Song
from timbrel.sources.clips import clip, data_set_folder
from timbrel.splits import name_hash

LAYOUT = "expected a library, as `timbrel prepare midi FOLDER --library PATH` makes it"
COLUMNS = [
    "song", "artist", "group", "split", "stem", "path", "program", "sample_rate", "frames", "activity_hop", "activity",
]  # fmt: skip

UNJUDGED = "nobody judged an instrument in it: raise judged_present or judged_absent, or leave it."
SILENT = "nothing sounds in it, so it was left out."
SHORT = "shorter than a clip: lower --option seconds, or leave it."
NO_PROGRAM = (
    "a stem of it has no General MIDI program, so that nobody knows what is absent: leave it, or prepare it from a "
    "source that knows programs, such as midi or slakh."
)


@dataclass(frozen=True, kw_only=True)
class WeakClipsOptions:
    """What ``--option`` may set for the source ``weak_clips``."""

    dataset: str = ""
    """The library's data set to cut; empty: the only one."""
    seconds: Annotated[float, Gt(0)] = 10.0
    """Length of a clip, s."""
    least_s: Annotated[float, Gt(0)] = 1.0
    """An instrument that sounds for this long in a clip, s, is present; for less, in doubt."""
    judged_present: Annotated[float, Ge(0)] = 0.888
    """Present instruments of a clip that are judged, on average; clips with fewer have all of them judged."""
    judged_absent: Annotated[float, Ge(0)] = 1.181
    """Absent instruments of a clip that are judged, on average."""
    full_splits: tuple[Literal["train", "valid", "test"], ...] = ()
    """Splits that are judged on all instruments, such as test or valid,test."""
    seed: Annotated[int, Ge(0)] = 0
    """Another seed judges other instruments."""

    def __post_init__(self) -> None:
        if self.least_s > self.seconds:
            raise ValueError(f"least_s={self.least_s:g} is longer than a clip, seconds={self.seconds:g}")


@dataclass(frozen=True)
class StoredStem:
    """A stem in a library, as the catalogue has it."""

    path: Path
    sample_rate: int
    """Hz."""
    frames: int
    """Samples a channel."""


@dataclass(frozen=True)
class MixedClip:
    """Sums a part of a song's stems."""

    stems: tuple[StoredStem, ...]
    start_s: float
    seconds: float
    sample_rate: int
    """Hz, of the clip."""

    def __call__(self) -> Performance:
        """Return the mix, ``(1, sample)``.

        Raises:
            UserError: a stem's file is missing, damaged, or not what the catalogue says.
        """
        from timbrel.mixing.render import read_chunk  # takes a second: sources are listed without it

        mix = np.zeros((1, round(self.seconds * self.sample_rate)), dtype=np.float32)
        for stem in self.stems:
            mix += read_chunk(stem.path, stem.sample_rate, stem.frames, self.start_s, self.seconds, self.sample_rate)
        return Performance(mix, self.sample_rate)

    def header(self) -> Header:
        """Return what the clip will be, once each stem was looked at.

        Raises:
            UserError: a stem's file is missing, damaged, or not what the catalogue says.
        """
        for stem in self.stems:
            header = AudioFile(stem.path).header()
            if (header.sample_rate, header.frames) != (stem.sample_rate, stem.frames):
                raise UserError(
                    f"{stem.path} holds {header.frames} samples at {header.sample_rate} Hz, the catalogue says "
                    f"{stem.frames} at {stem.sample_rate} Hz: prepare its data set anew."
                )
        return Header(1, self.sample_rate, round(self.seconds * self.sample_rate))


@dataclass(frozen=True)
class _CutSong:
    """A song of the library with what sounds in each of its clips."""

    name: str
    artist: str
    group: str
    split: str
    stems: tuple[StoredStem, ...]
    present: np.ndarray
    """bool ``(clip, 20)``."""
    doubtful: np.ndarray
    """bool ``(clip, 20)``."""
    silent: np.ndarray
    """bool ``(clip,)``."""


class WeakClips:
    """The source ``weak_clips``."""

    name = "weak_clips"
    summary = "clips of a prepared library's songs, labelled weakly and in part as OpenMIC's"
    needs_path = True
    options_type = WeakClipsOptions

    def find(self, path: Path | None, options: WeakClipsOptions) -> Found:
        """Describe the clips; no audio is opened.

        Raises:
            UserError: there is no library, it has several data sets and none is named, its stems have no programs, a
                split of ``full_splits`` is empty, or no clip can be used.
        """
        library, dataset = _data_set(path, options.dataset)
        skipped: list[Skipped] = []
        table = library.catalogue([dataset], COLUMNS)
        for split in options.full_splits:
            if split not in table["split"].unique().to_pylist():
                raise UserError(f"full_splits={split}: '{dataset}' of {library.root} has no song in that split.")
        if table["program"].null_count == len(table):
            raise UserError(
                f"no stem of '{dataset}' in {library.root} has a General MIDI program, by which OpenMIC's instruments "
                "are known: take a data set by midi, house_band or slakh."
            )
        cut = list(_cut_songs(library.root, table, options, skipped))
        occurring = np.zeros(len(OPENMIC), dtype=bool)
        for song in cut:
            occurring |= song.present.any(axis=0)
        songs = [each for song in cut for each in _clips(song, occurring, options, skipped)]
        if not songs:
            first = "".join(f" (first problem: {each.what}: {each.why})" for each in skipped[:1])
            raise UserError(f"{library.root}: no clip of '{dataset}' can be used{first}.")
        return Found(songs, len(songs), skipped)


def _data_set(path: Path | None, dataset: str) -> tuple[Library, str]:
    """Return the library and which of its data sets to cut."""
    if path is not None and not isinstance(path, PosixPath | WindowsPath):
        raise UserError(f"{path}: a library is a folder on a disk; {LAYOUT}.")
    root = data_set_folder(path, WeakClips.name, LAYOUT)
    if (root / "dataset.json").is_file():
        if dataset not in ("", root.name):
            raise UserError(
                f"{root} is the data set '{root.name}': leave out dataset={dataset}, or give {root.parent}."
            )
        root, dataset = root.parent, root.name
    library = Library.open(root)
    if not dataset and len(library.datasets) > 1:
        raise UserError(
            f"{root} has several data sets: choose one of {', '.join(library.datasets)} by --option dataset=NAME."
        )
    dataset = dataset or library.datasets[0]
    library.facts(dataset)  # raises where there is none of that name
    return library, dataset


def _cut_songs(root: Path, table: pa.Table, options: WeakClipsOptions, skipped: list[Skipped]) -> Iterator[_CutSong]:
    """Yield the songs that have clips; name those that have none."""
    rows = table.drop_columns(["activity"]).to_pylist()
    for name, numbers in groupby(range(len(rows)), lambda number: rows[number]["song"]):
        first, *others = numbers
        stems = rows[first : first + 1 + len(others)]
        if any(stem["program"] is None for stem in stems):
            skipped.append(Skipped(name, NO_PROGRAM))
            continue
        # A little more than nothing: a song of 29.99999 s, by its samples, has three clips of 10 s.
        clips = int(min(stem["frames"] / stem["sample_rate"] for stem in stems) / options.seconds + 1e-6)
        if not clips:
            skipped.append(Skipped(name, SHORT))
            continue
        confidence = np.stack(
            [table["activity"][number].values.to_numpy() for number in range(first, first + len(stems))]
        )
        hop_s = stems[0]["activity_hop"] / stems[0]["sample_rate"]
        programs = np.array([stem["program"] for stem in stems])
        certain_s = _of_instruments(openmic_of_programs(programs), confidence, hop_s, clips, options.seconds)
        perhaps_s = _of_instruments(openmic_perhaps(programs), confidence, hop_s, clips, options.seconds)
        present = certain_s >= options.least_s
        yield _CutSong(
            name,
            stems[0]["artist"],
            stems[0]["group"],
            stems[0]["split"],
            tuple(StoredStem(root / stem["path"], stem["sample_rate"], stem["frames"]) for stem in stems),
            present,
            ~present & ((certain_s > 0) | (perhaps_s > 0)),
            sounding_s(confidence.max(axis=0), hop_s, clips, options.seconds) == 0,
        )


def _of_instruments(
    stems_of: np.ndarray, confidence: np.ndarray, hop_s: float, clips: int, seconds: float
) -> np.ndarray:
    """Return for how long each instrument sounds in each clip, s, ``(clip, instrument)``.

    ``stems_of`` is bool ``(stem, instrument)``, ``confidence`` ``(stem, frame)``.
    """
    sounding = np.zeros((clips, stems_of.shape[1]))
    for number in np.flatnonzero(stems_of.any(axis=0)):
        sounding[:, number] = sounding_s(confidence[stems_of[:, number]].max(axis=0), hop_s, clips, seconds)
    return sounding


def sounding_s(confidence: np.ndarray, hop_s: float, clips: int, seconds: float) -> np.ndarray:
    """Return for how long something sounds in each clip of ``seconds``, s, ``(clip,)``; by confidence ``(frame,)``."""
    begins, ends = activity.intervals(confidence, hop_s, activity.SOUNDING).astype(np.float64).T
    borders = seconds * np.arange(clips + 1)[:, None]
    return np.diff((borders - begins).clip(0, ends - begins).sum(axis=1))


def _clips(song: _CutSong, occurring: np.ndarray, options: WeakClipsOptions, skipped: list[Skipped]) -> Iterator[Song]:
    """Yield the judged clips of a song; name those that are left out."""
    rate = max(stem.sample_rate for stem in song.stems)
    full = song.split in options.full_splits
    for number, present in enumerate(song.present):
        name = f"{song.name}__{number:03d}"
        if song.silent[number]:
            skipped.append(Skipped(name, SILENT))
            continue
        absent = ~present & ~song.doubtful[number] & occurring
        chances = (present | absent).astype(np.float64)
        if not full:
            chances[present] *= options.judged_present / max(1, present.sum())
            chances[absent] *= options.judged_absent / max(1, absent.sum())
        tags = _judged(song.name, number, present, chances, options.seed)
        if not tags:
            skipped.append(Skipped(name, UNJUDGED))
            continue
        perform = MixedClip(song.stems, number * options.seconds, options.seconds, rate)
        yield clip(name, perform, song.split, tags, song.artist, song.group)


def _judged(song: str, number: int, present: np.ndarray, chances: np.ndarray, seed: int) -> Mapping[str, float]:
    """Return the instruments that are judged and whether each is there; ``chances`` says how likely each is judged."""
    return {
        instrument: float(there)
        for instrument, there, chance in zip(OPENMIC, present, chances, strict=True)
        if chance and _drawn(seed, song, number, instrument) < chance
    }


def _drawn(seed: int, song: str, number: int, instrument: str) -> float:
    """Return a number from 0 to 1 that depends on the arguments alone, evenly spread over them."""
    return int.from_bytes(name_hash("weak_clips", str(seed), song, str(number), instrument)[:6]) / 2**48


SOURCE = WeakClips()
