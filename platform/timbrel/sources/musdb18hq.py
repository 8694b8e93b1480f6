"""The source `musdb18hq`: MUSDB18-HQ, 150 songs as four stems.

Licence: for academic use; each song has its own. They come from DSD100 (100 songs, of Mixing Secrets), MedleyDB (46),
and four elsewhere. Rafii, Liutkus, Stöter, Mimilakis and Bittner, "MUSDB18-HQ: an uncompressed version of MUSDB18"
(2019), https://doi.org/10.5281/zenodo.3338373.

::

    musdb18hq/
    ├── train/                        100 songs, 14 of which are the official valid
    │   └── <Artist> - <Title>/
    │       ├── bass.wav
    │       ├── drums.wav
    │       ├── other.wav
    │       ├── vocals.wav
    │       └── mixture.wav           not read: it is the sum of the four
    └── test/                         50 songs

Stereo, 44.1 kHz. A stem is what its name says, not one player: ``vocals`` may hold a choir or rap, and ``bass`` any
bass, so neither electric nor double bass is said of it. ``other`` is whatever is left, guitars and pianos too. A
mixture in which it sounds would be labelled wrongly, so it is left out and counted; ``--option other=keep`` takes it
for a task that has a taxonomy of its own, such as separation.

A song is called after its folder and its artist is what stands in front of the first `` - ``, so that songs that are
also in MedleyDB or Mixing Secrets can be found by artist and title.

Why not with the package musdb: it lists folders as this module does, but asks for ffmpeg (to decode the MP4 of MUSDB18,
which is not read here), reads no bucket, and gives a song without one of its files as a song of three stems in silence.
The validation songs are those of its ``configs/mus.yaml`` (commit 5e90f0f of sigsep/sigsep-mus-db).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from timbrel.errors import UserError
from timbrel.sources.audio import AudioFile
from timbrel.sources.base import Found, Skipped, Song, Stem
from timbrel.sources.folders import named

STEMS = ("bass", "drums", "other", "vocals")
SPLITS = ("train", "test")
LAYOUT = "expected {train,test}/<Artist> - <Title>/{bass,drums,other,vocals}.wav"
MIXTURE = "mixture.wav"
MP4 = ".stem.mp4"

VALIDATION = frozenset(
    {
        "ANiMAL - Rockshow",
        "Actions - One Minute Smile",
        "Alexander Ross - Goodbye Bolero",
        "Clara Berry And Wooldog - Waltz For My Victims",
        "Fergessen - Nos Palpitants",
        "James May - On The Line",
        "Johnny Lokke - Promises & Lies",
        "Leaf - Summerghost",
        "Meaxic - Take A Step",
        "Patrick Talbot - A Reason To Leave",
        "Skelpolu - Human Mistakes",
        "Traffic Experiment - Sirens",
        "Triviul - Angelsaint",
        "Young Griffo - Pennies",
    }
)
"""The songs of train on which is validated."""

IS_OTHER = (
    "'other' is outside the taxonomy: a mixture of whatever is left; "
    "say `--option other=keep` for a task with a taxonomy of its own."
)
NO_VALIDATION = "an official validation song that train lacks: copy it, or say nothing of results on valid."


@dataclass(frozen=True, kw_only=True)
class Musdb18HqOptions:
    """What ``--option`` may set for the source ``musdb18hq``."""

    other: Literal["skip", "keep"] = "skip"
    """What becomes of the stem ``other``, which is outside the taxonomy: ``keep`` takes it for a task that has a
    taxonomy of its own."""


class Musdb18Hq:
    """The source ``musdb18hq``."""

    name = "musdb18hq"
    summary = "MUSDB18-HQ: 150 songs as bass, drums, vocals (and other)"
    needs_path = True
    options_type = Musdb18HqOptions

    def find(self, path: Path | None, options: Musdb18HqOptions) -> Found:
        """Describe the songs at ``path``; no audio is opened.

        Raises:
            UserError: no song is there, or one is in train and in test.
        """
        if path is None:
            raise UserError(f"the source 'musdb18hq' needs a path: {LAYOUT}.")
        path = path.absolute()
        if not path.is_dir():
            raise UserError(f"{path}: no such folder; {LAYOUT}.")
        skipped: list[Skipped] = []
        songs: dict[str, Song] = {}
        try:
            for song in _songs(path, options, skipped):
                if song.name in songs:
                    raise UserError(f"{path}: '{song.name}' is in train and in test: remove it from train.")
                songs[song.name] = song
        except OSError as error:
            where = error.filename or path
            raise UserError(f"{where}: cannot be read ({error.strerror or error}); {LAYOUT}.") from error
        if not songs:
            first = "".join(f" (first problem: {item.what}: {item.why.rstrip('.')})" for item in skipped[:1])
            raise UserError(f"{path}: no usable song{first}; {LAYOUT}.")
        skipped += [Skipped(name, NO_VALIDATION) for name in sorted(VALIDATION - songs.keys())]
        return Found(list(songs.values()), len(songs), skipped)


def _songs(root: Path, options: Musdb18HqOptions, skipped: list[Skipped]) -> Iterator[Song]:
    """Yield the songs of ``train`` and ``test``."""
    for folder in named(root, skipped):
        if folder.is_dir() and folder.name in SPLITS:
            yield from _songs_of_split(folder, options, skipped)
        elif folder.is_dir():
            skipped.append(Skipped(str(folder), f"not read: {LAYOUT}."))


def _songs_of_split(folder: Path, options: Musdb18HqOptions, skipped: list[Skipped]) -> Iterator[Song]:
    for song in named(folder, skipped):
        if song.name.endswith(MP4):
            skipped.append(Skipped(str(song), f"{MP4} is MUSDB18, compressed: download MUSDB18-HQ."))
        if not song.is_dir():
            continue
        stems = tuple(_stems(song, options, skipped))
        if not stems:
            skipped.append(Skipped(str(song), "none of the song's stems can be used."))
            continue
        artist, dash, _ = song.name.partition(" - ")
        valid = folder.name == "train" and song.name in VALIDATION
        yield Song(song.name, stems, artist=artist if dash else "", split="valid" if valid else folder.name)


def _stems(song: Path, options: Musdb18HqOptions, skipped: list[Skipped]) -> Iterator[Stem]:
    files = {file.name: file for file in named(song, skipped)}
    for name in STEMS:
        file = files.pop(f"{name}.wav", None)
        if file is None:
            skipped.append(Skipped(f"{song}/{name}.wav", "no such file: copy the song again."))
        elif name == "other" and options.other == "skip":
            skipped.append(Skipped(str(file), IS_OTHER))
        else:
            yield Stem(name, name, AudioFile(file))
    skipped.extend(
        Skipped(str(file), f"no file of MUSDB18-HQ: {LAYOUT}.") for name, file in files.items() if name != MIXTURE
    )


SOURCE = Musdb18Hq()
