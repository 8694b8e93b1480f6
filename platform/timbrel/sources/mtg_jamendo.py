"""The source `mtg_jamendo`: MTG-Jamendo, 55,000 full tracks with tags for genre, instrument and mood.

    PATH/                                          a copy of the repository MTG/mtg-jamendo-dataset
    ├── data/splits/split-0/                       split-0 to split-4
    │   ├── autotagging_top50tags-train.tsv        TRACK_ID ARTIST_ID ALBUM_ID PATH DURATION TAGS...
    │   ├── autotagging_top50tags-validation.tsv
    │   ├── autotagging_top50tags-test.tsv
    │   └── autotagging_instrument-train.tsv ...   also genre, moodtheme
    └── raw_30s/audio/                             or anywhere: --option audio=FOLDER
        ├── 00/1009600.mp3                         the last two digits of the number are the folder
        ├── 00/1012000.low.mp3                     the smaller files of --type audio-low
        └── ...

The repository has no audio, and its downloader unpacks the folders 00 to 99 where it is told to. Without the option
`audio` they are looked for in PATH and beside it: in raw_30s/audio, raw_30s/audio-low, audio, audio-low, then PATH.
The mel spectrograms (.npy) are not read.

A song is a whole track, with the uploader's tags as `category---tag`; all the subset's tags are its vocabulary: what
a track is not tagged with counts as not there. The splits are the official ones: five random ones, each with no artist
on two sides. A song's artist is ARTIST_ID. The lists have a tag in every column from the sixth on, and CRLF at the end
of lines, which must not become part of the last tag. Tracks whose audio isn't there are left out and counted, so a part
of the 508 GB (156 GB as audio-low) will do. The library stores WAV, about 10 MB a minute of stereo: begin with `limit`.

The splits leave out tags that are not in all of them, and so some tracks: of instruments there are 40 tags and 24,976
tracks, without the ukulele of autotagging_instrument.tsv.

Licence: metadata CC BY-NC-SA 4.0; audio Creative Commons, for each track as audio_licenses.txt says.

Citation: Bogdanov, Won, Tovstogan, Porter and Serra, "The MTG-Jamendo dataset for automatic music tagging", Machine
Learning for Music Discovery workshop, ICML 2019.

No loader is used: mirdata reads only the lists of moods, and the repository has scripts that read lists as here.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from annotated_types import Ge, Le

from timbrel.errors import UserError
from timbrel.sources.audio import AudioFile
from timbrel.sources.base import Found, Skipped, Song
from timbrel.sources.clips import Tree, clip, data_set_folder, opened, rows
from timbrel.splits import name_hash

HEADER = ["TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS"]
SPLITS = {"train": "train", "validation": "valid", "test": "test"}
"""The word for each split in the lists' names, and ours."""
CATEGORIES = {
    "top50tags": ("genre", "instrument", "mood/theme"),
    "genre": ("genre",),
    "instrument": ("instrument",),
    "moodtheme": ("mood/theme",),
}
"""The categories of the tags of each subset."""
LAYOUT = "expected data/splits/split-N/autotagging_SUBSET-{train,validation,test}.tsv of MTG/mtg-jamendo-dataset"
MALFORMED = (
    "a malformed row: expected an id of track, artist and album, NN/NUMBER.mp3, a duration, and tags of the subset as "
    "category---tag, separated by tabs; take the list from the repository again."
)
_AUDIO = ("raw_30s/audio", "raw_30s/audio-low", "audio", "audio-low")


@dataclass(frozen=True, kw_only=True)
class MtgJamendoOptions:
    """What ``--option`` may set for the source ``mtg_jamendo``."""

    subset: Literal["top50tags", "instrument", "genre", "moodtheme"] = "top50tags"
    """Which lists to read: tracks with one of the 50 most frequent tags, or with a tag of one category."""
    split_number: Annotated[int, Ge(0), Le(4)] = 0
    """Which of the five official splits."""
    audio: str = ""
    """The folder that holds 00 to 99, relative to PATH unless absolute; empty: looked for in PATH and beside it."""
    limit: Annotated[int, Ge(0)] = 0
    """Read only this many of the tracks that are there, a fair sample; 0: all."""


class _Track(NamedTuple):
    """One row of a list."""

    name: str
    artist: str
    path: str
    split: str
    tags: list[str]


class MtgJamendo:
    """The source ``mtg_jamendo``."""

    name = "mtg_jamendo"
    summary = "MTG-Jamendo: full tracks with tags for genre, instrument and mood"
    needs_path = True
    options_type = MtgJamendoOptions

    def find(self, path: Path | None, options: MtgJamendoOptions) -> Found:
        """Describe the tracks in the lists of a subset; no audio is opened.

        Raises:
            UserError: a list is missing, has another header or names a track twice, or no audio is there.
        """
        root = data_set_folder(path, self.name, LAYOUT)
        skipped: list[Skipped] = []
        tracks = _tracks(root / "data" / "splits" / f"split-{options.split_number}", options.subset, skipped)
        # Alphabetical with the category in front: the order of the repository's data/tags/top50.txt.
        vocabulary = tuple(sorted({tag for track in tracks for tag in track.tags}))
        audio = _audio_folder(root, options.audio)
        tree = Tree(audio, skipped)
        songs: list[Song] = []
        for track in sorted(tracks, key=lambda track: name_hash(track.name)) if options.limit else tracks:
            # The downloader's audio-low has the same folders and another suffix.
            file = tree.file(track.path) or tree.file(track.path.replace(".mp3", ".low.mp3"))
            if file is None:
                why = (
                    f"its audio is not in {audio}, neither as .mp3 nor as .low.mp3: download the archive of its folder."
                )
                skipped.append(Skipped(track.path, why))
                continue
            songs.append(clip(track.name, AudioFile(file), track.split, dict.fromkeys(track.tags, 1.0), track.artist))
            if len(songs) == options.limit:
                break
        if not songs:
            raise UserError(
                f"{audio}: none of the {len(tracks)} tracks of the lists is there; expected {tracks[0].path} and more."
                if tracks
                else f"{root}: the lists of {options.subset} hold no track; take them from the repository again."
            )
        return Found(songs, len(songs), skipped, vocabulary)


def _tracks(folder: Path, subset: str, skipped: list[Skipped]) -> list[_Track]:
    """Read the three lists of a subset, in the order in which they name their tracks."""
    tracks = []
    first: dict[str, str] = {}
    for word, split in SPLITS.items():
        lines = rows(folder / f"autotagging_{subset}-{word}.tsv", delimiter="\t")
        where, header = next(lines, (f"{folder}", []))
        if header != HEADER:
            raise UserError(f"{where}: expected the header {' '.join(HEADER)}, got {' '.join(header) or 'nothing'}.")
        for where, cells in lines:
            if not _well_formed(cells, CATEGORIES[subset]):
                skipped.append(Skipped(where, MALFORMED))
                continue
            name, artist, _, path, _, *tags = cells
            if name in first:
                # In two lists it would be on both sides of the split.
                raise UserError(f"{where}: the track {name} is listed already ({first[name]}): take the lists again.")
            first[name] = where
            tracks.append(_Track(name, artist, path, split, tags))
    return tracks


def _well_formed(cells: list[str], categories: tuple[str, ...]) -> bool:
    if len(cells) < len(HEADER):
        return False
    ids, path, duration, tags = cells[:3], cells[3], cells[4], cells[5:]
    return (
        all(re.fullmatch(f"{kind}_\\d+", one) for kind, one in zip(("track", "artist", "album"), ids, strict=True))
        and re.fullmatch(r"\d\d/\d+\.mp3", path) is not None
        and re.fullmatch(r"\d+(\.\d+)?", duration) is not None
        and all(category in categories and tag for category, _, tag in (each.partition("---") for each in tags))
    )


def _audio_folder(root: Path, given: str) -> Path:
    """Return the folder that holds the folders 00 to 99."""
    looked = [root / given] if given else [*(home / each for home in (root, root.parent) for each in _AUDIO), root]
    for folder in looked:
        with opened(folder):
            if folder.is_dir() and any(re.fullmatch(r"\d\d", each.name) for each in folder.iterdir()):
                return folder
    places = ", ".join(map(str, looked))
    raise UserError(f"no folders 00 to 99 of audio in {places}: download it, and say --option audio=FOLDER.")


SOURCE = MtgJamendo()
