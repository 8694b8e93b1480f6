"""The source `openmic`: OpenMIC-2018, 20,000 clips of 10 s, with what listeners said of 20 instruments in them.

    PATH/                                     openmic-2018, as openmic-2018-v1.0.0.tgz unpacks
    ├── audio/000/000046_3840.ogg             folders: the first three characters of the sample key
    ├── vggish/000/000046_3840.json           {"time_points": [...], "features": [[128 bytes], ...]}
    ├── partitions/split01_train.csv          one sample key a line, without a header
    ├── partitions/split01_test.csv
    ├── class-map.json                        {"accordion": 0, ...}
    ├── openmic-2018-aggregated-labels.csv    sample_key,instrument,relevance,num_responses
    ├── openmic-2018-metadata.csv             of the Free Music Archive, with sample_key
    └── openmic-2018.npz, ...                 not read

The labels are weak and masked: in a clip about two of the instruments were judged. A song's tags are the relevance,
0 to 1, of the instruments that were judged, as published; there is no vocabulary, so nothing is known of the others.
From which relevance on an instrument counts as present is for the task to say. A row with an empty or NaN relevance
says that nobody judged.

The VGGish features come along as the embedding `vggish`: uint8 of shape (time, 128), one row each 0.96 s, quantised as
AudioSet's. A task divides by 255 or whatever else it needs. A clip without them is read, and named in the report.

The test partition is the official one. There is none for validation, so a share of the training partition's artists,
chosen by a hash of their names, is set aside: partitions share no artist, and neither should these two. (Leaving the
split open would move training clips into the test.) AttentionMIC's validation set is another: rows of a file of theirs.

openmic-2018.npz repeats the labels and the features, with 0.5 for what was not judged. It isn't read: its sample keys
are stored as a pickle, which may run code while it is loaded, and nothing else says which row is which clip.

Licence: CC BY 4.0, by Spotify AB; the audio under the Creative Commons licences in the metadata.

Citation: Humphrey, Durand and McFee, "OpenMIC-2018: an open dataset for multiple instrument recognition", ISMIR 2018.

No loader is used: mirdata's downloads an index first, even where the data set is there.
"""

import dataclasses
import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Lt

from timbrel.errors import UserError
from timbrel.sources.audio import AudioFile
from timbrel.sources.base import Found, Header, Performance, Skipped
from timbrel.sources.clips import Tree, clip, data_set_folder, opened, rows
from timbrel.splits import name_hash

LABELS = "openmic-2018-aggregated-labels.csv"
METADATA = "openmic-2018-metadata.csv"
LABEL_COLUMNS = ["sample_key", "instrument", "relevance"]
VGGISH_SIZE = 128
OGG_PAGE_BYTES = 65_307
"""The largest a page can be."""
LAYOUT = f"expected openmic-2018 as unpacked: audio/, partitions/, class-map.json, {LABELS}, {METADATA}"

NO_AUDIO = "its audio is missing: expected audio/XXX/KEY.ogg, XXX the first three characters; unpack the archive again."
NO_LABEL = (
    f"nobody judged an instrument in it: expected a row in {LABELS}; unpack the archive again if that is cut off."
)
NO_PARTITION = "in neither partition: expected a line in one of partitions/split01_{train,test}.csv."
NO_ARTIST = f"its artist is not in {METADATA}: it is read, and counts as an artist of its own."
NO_VGGISH = "its VGGish features are missing: the clip is read without them; unpack the archive again."
MALFORMED = (
    f"a malformed row: expected {','.join(LABEL_COLUMNS)}, an instrument of class-map.json, a relevance from 0 to 1; "
    "unpack the archive again."
)
MALFORMED_KEY = "a malformed row: expected a sample key such as 000046_3840; unpack the archive again."


@dataclass(frozen=True, kw_only=True)
class OpenmicOptions:
    """What ``--option`` may set for the source ``openmic``."""

    valid_share: Annotated[float, Ge(0), Lt(1)] = 0.15
    """Share of the training partition's artists whose clips become the validation split."""
    vggish: bool = True
    """Whether to read the VGGish features."""


@dataclass(frozen=True)
class OpenmicClip:
    """Reads a clip, and its VGGish features where they are known."""

    audio: AudioFile
    vggish: Path | None

    def __call__(self) -> Performance:
        """Return the audio with the embedding ``vggish``, uint8 of shape ``(time, 128)``.

        Raises:
            UserError: one of the files is damaged.
        """
        performance = self.audio()
        check_end(self.audio.path)
        if self.vggish is None:
            return performance
        return dataclasses.replace(performance, embeddings={"vggish": read_vggish(self.vggish)})

    def header(self) -> Header:
        """Return what the audio file says of itself, once its end was seen.

        Raises:
            UserError: it is damaged.
        """
        header = self.audio.header()
        check_end(self.audio.path)
        return header


class Openmic:
    """The source ``openmic``."""

    name = "openmic"
    summary = "OpenMIC-2018: 10-s clips with the relevance of the instruments that were judged, and VGGish features"
    needs_path = True
    options_type = OpenmicOptions

    def find(self, path: Path | None, options: OpenmicOptions) -> Found:
        """Describe the clips of both partitions; no audio and no features are opened.

        Raises:
            UserError: a table is missing, has another header, or names a clip twice, or no clip can be used.
        """
        root = data_set_folder(path, self.name, LAYOUT)
        skipped: list[Skipped] = []
        partitions = _partitions(root / "partitions", skipped)
        labels = _labels(root, skipped)
        artists = _artists(root / METADATA)
        audio, vggish = Tree(root / "audio", skipped), Tree(root / "vggish", skipped)
        songs = []
        for key in sorted(partitions):
            ogg = audio.file(f"{key[:3]}/{key}.ogg")
            features = vggish.file(f"{key[:3]}/{key}.json") if options.vggish else None
            if ogg is None or key not in labels:
                skipped.append(Skipped(key, NO_AUDIO if ogg is None else NO_LABEL))
                continue
            if options.vggish and features is None:
                skipped.append(Skipped(key, NO_VGGISH))
            if key not in artists:
                skipped.append(Skipped(key, NO_ARTIST))
            artist = artists.get(key, "")
            split = partitions[key]
            if split == "train" and _share(artist or key) < options.valid_share:
                split = "valid"
            songs.append(clip(key, OpenmicClip(AudioFile(ogg), features), split, labels[key], artist))
        skipped += [Skipped(key, NO_PARTITION) for key in sorted(labels.keys() - partitions.keys())]
        skipped += [Skipped(str(file), NO_PARTITION) for file in audio.unused(".ogg") if file.stem not in labels]
        if not songs:
            first = "".join(f" (first problem: {each.what}: {each.why})" for each in skipped[:1])
            raise UserError(f"{root}: no clip can be used{first}; {LAYOUT}.")
        return Found(songs, len(songs), skipped)


def check_end(ogg: Path) -> None:
    """Refuse an Ogg file that is cut off, which libsndfile reads as a shorter one.

    Its last page has the flag 4 in byte 5, and its size is that of a header of 27 bytes, of the table of segments whose
    length byte 26 gives, and of the segments (RFC 3533, section 6).

    Raises:
        UserError: it ends earlier.
    """
    with opened(ogg), ogg.open("rb") as stream:
        stream.seek(max(0, ogg.stat().st_size - OGG_PAGE_BYTES))
        end = stream.read()
    page = end[end.rfind(b"OggS") :]
    whole = len(page) > 27 and page[5] & 4 and len(page) >= 27 + page[26] + sum(page[27 : 27 + page[26]])
    if not whole:
        raise UserError(f"{ogg}: truncated, its last page is missing; unpack the archive again.")


def read_vggish(file: Path) -> np.ndarray:
    """Return the features in one of the data set's JSON files: uint8 of shape ``(time, 128)``.

    Raises:
        UserError: it holds something else.
    """
    try:
        with opened(file), file.open(encoding="utf-8") as stream:
            features = np.array(json.load(stream)["features"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(f"{file}: not JSON with rows of 'features' ({error!r}); unpack the archive again.") from error
    whole = features.dtype.kind == "i" and features.ndim == 2 and features.shape[1] == VGGISH_SIZE
    if not whole or features.min() < 0 or features.max() > 255:
        raise UserError(
            f"{file}: expected features of shape (time, {VGGISH_SIZE}), whole numbers from 0 to 255, got "
            f"{features.dtype} of shape {features.shape}; unpack the archive again."
        )
    return features.astype(np.uint8)


def _partitions(folder: Path, skipped: list[Skipped]) -> dict[str, str]:
    """Return the partition of each clip."""
    split_of: dict[str, str] = {}
    first: dict[str, str] = {}
    for split in ("train", "test"):
        for where, cells in rows(folder / f"split01_{split}.csv"):
            key = cells[0]
            if not re.fullmatch(r"\d{6}_\d+", key) or len(cells) > 1:
                skipped.append(Skipped(where, MALFORMED_KEY))
                continue
            if key in first:
                raise UserError(f"{where}: the clip {key} is listed already ({first[key]}); unpack the archive again.")
            first[key], split_of[key] = where, split
    return split_of


def _labels(root: Path, skipped: list[Skipped]) -> dict[str, dict[str, float]]:
    """Return the relevance of each instrument that was judged in each clip."""
    instruments = _instruments(root / "class-map.json")
    lines = rows(root / LABELS)
    _check_header(root / LABELS, next(lines, ("", []))[1][:3], LABEL_COLUMNS)
    relevances: dict[str, dict[str, float]] = defaultdict(dict)
    first: dict[tuple[str, str], str] = {}
    for where, cells in lines:
        key, instrument, text = (*cells, "", "")[:3]
        relevance = _number(text)
        known = re.fullmatch(r"\d{6}_\d+", key) and instrument in instruments and len(cells) >= 3
        if not known or relevance is None or not (math.isnan(relevance) or 0 <= relevance <= 1):
            skipped.append(Skipped(where, MALFORMED))
            continue
        if (key, instrument) in first:
            raise UserError(
                f"{where}: {instrument} in {key} was judged already ({first[key, instrument]}); unpack it again."
            )
        first[key, instrument] = where
        if not math.isnan(relevance):
            relevances[key][instrument] = relevance
    return dict(relevances)


def _instruments(file: Path) -> Mapping[str, Any]:
    try:
        with opened(file), file.open(encoding="utf-8") as stream:
            instruments = json.load(stream)
    except ValueError as error:
        raise UserError(f"{file}: not JSON ({error}); unpack the archive again.") from error
    if not isinstance(instruments, dict) or not instruments:
        raise UserError(f"{file}: expected an object with the names of the instruments; unpack the archive again.")
    return instruments


def _artists(file: Path) -> dict[str, str]:
    """Return the artist of each clip, by name."""
    lines = rows(file)
    header = next(lines, ("", []))[1]
    _check_header(
        file, [name for name in header if name in ("sample_key", "artist_name")], ["artist_name", "sample_key"]
    )
    artist, key = header.index("artist_name"), header.index("sample_key")
    return {cells[key]: cells[artist] for _, cells in lines if len(cells) == len(header) and cells[artist]}


def _check_header(file: Path, got: list[str], expected: list[str]) -> None:
    if got != expected:
        raise UserError(
            f"{file}, line 1: expected the columns {', '.join(expected)}, got {', '.join(got) or 'none of them'}; "
            "unpack the archive again."
        )


def _number(text: str) -> float | None:
    """Return a number, NaN for an empty cell, or None for what is no number."""
    try:
        return float(text or "nan")
    except ValueError:
        return None


def _share(artist: str) -> float:
    """Return a number from 0 to 1 that depends on the name alone, evenly spread over names."""
    return int.from_bytes(name_hash("openmic", artist)[:6]) / 2**48


SOURCE = Openmic()
