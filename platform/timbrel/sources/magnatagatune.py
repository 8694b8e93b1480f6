"""The source `magnatagatune`: MagnaTagATune, 25,863 clips of 29 s with tags that players of a game agreed on.

    PATH/
    ├── annotations_final.csv    tab separated: clip_id, 188 tags (0 or 1), mp3_path
    ├── 0/ ... 9/, a/ ... f/     or mp3/0/ ..., or audio/0/ ...
    │   └── american_bach_soloists-j_s__bach_solo_cantatas-01-bwv54__i_aria-30-59.mp3
    └── split/mtat/              with --option lists=split/mtat, of the repository sota-music-tagging-models
        ├── train.npy            text, "index<tab>mp3_path"
        ├── valid.npy
        └── test.npy

Tags: the 50 most frequent ones, in the order of their frequency, as published taggers name them; or all 188 with
tags=188. They are taken as they are, though several mean the same ("female vocal", "female voice", "woman"). Every
clip counts as judged on all of them.

Splits: the usual one by folder (0 to b training, c validation, d to f test), of all clips, also those without one of
the 50 tags. With `lists`, the cleaned split (15,247 / 1,529 / 4,332 clips, each with a tag and 29.1 s of audio); what
it leaves out is counted. In both, clips of one track stay together, but not the tracks of an artist: 8 of the 26
artists in the cleaned validation split are in the test too. Some copies of the repository lack train.npy.

A song is a clip, under its clip_id; its group is the track. Its artist is the first part of the file's name, as in
american_bach_soloists. Three MP3s of the archive are empty; they are left out, as is every other empty or damaged file.

Licence: annotations and clips CC BY-NC-SA 3.0.

Citation: Law, West, Mandel, Bay and Downie, "Evaluation of algorithms using games: the case of music tagging",
ISMIR 2009.

No loader is used: mirdata has none for it.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from timbrel.clip_labels import MAGNATAGATUNE
from timbrel.errors import UserError
from timbrel.sources.audio import AudioFile
from timbrel.sources.base import Found, Skipped
from timbrel.sources.clips import Tree, clip, data_set_folder, opened, rows

ANNOTATIONS = "annotations_final.csv"
N_TAGS = 188
FOLDERS = "0123456789abcdef"
SPLIT_OF_FOLDER = dict.fromkeys(FOLDERS[:12], "train") | {"c": "valid"} | dict.fromkeys(FOLDERS[13:], "test")
LAYOUT = f"expected {ANNOTATIONS}, and the folders 0 to f of MP3s, there or in mp3/ or audio/"

NO_AUDIO = "its audio is missing: expected the MP3 in its folder, 0 to f; unpack mp3.zip again."
EMPTY = "an empty file, as three are in the archive of the data set: it can't be heard, so leave it."
NOT_LISTED = "the lists of the cleaned split leave it out."
NOT_ANNOTATED = f"in a list of the cleaned split, but not in {ANNOTATIONS}; take that from the data set again."
NO_ANNOTATION = f"an MP3 without a row in {ANNOTATIONS}: what it was tagged with is not known."
MALFORMED = (
    "a malformed row: expected a number, 0 or 1 for each tag, and FOLDER/NAME.mp3, separated by tabs; take the file "
    "from the data set again."
)


@dataclass(frozen=True, kw_only=True)
class MagnatagatuneOptions:
    """What ``--option`` may set for the source ``magnatagatune``."""

    tags: Literal["50", "188"] = "50"
    """The 50 most frequent tags, or all."""
    lists: str = ""
    """The folder of train.npy, valid.npy and test.npy, relative to PATH unless absolute; empty: split by folder."""


class Magnatagatune:
    """The source ``magnatagatune``."""

    name = "magnatagatune"
    summary = "MagnaTagATune: 29-s clips with 50 or 188 tags"
    needs_path = True
    options_type = MagnatagatuneOptions

    def find(self, path: Path | None, options: MagnatagatuneOptions) -> Found:
        """Describe the annotated clips; no audio is opened.

        Raises:
            UserError: a table or list is missing, has another header, or names a clip twice, or no audio is there.
        """
        root = data_set_folder(path, self.name, LAYOUT)
        skipped: list[Skipped] = []
        tags, clips = _annotations(root / ANNOTATIONS, skipped)
        vocabulary = tags if options.tags == "188" else MAGNATAGATUNE
        splits = _cleaned_split(root / options.lists) if options.lists else None
        tree = Tree(_audio_folder(root), skipped)
        songs = []
        for mp3_path, (clip_id, present) in clips.items():
            file = tree.file(mp3_path)
            split = SPLIT_OF_FOLDER[mp3_path[0]] if splits is None else splits.pop(mp3_path, None)
            if file is None or split is None:
                skipped.append(Skipped(mp3_path, NO_AUDIO if file is None else NOT_LISTED))
                continue
            with opened(file):
                if not file.stat().st_size:
                    skipped.append(Skipped(mp3_path, EMPTY))
                    continue
            # <artist>-<album>-<number>-<title>-<start>-<end>
            track = re.sub(r"-\d+-\d+$", "", file.stem)
            facts = {tag: 1.0 for tag in vocabulary if tag in present}
            songs.append(clip(clip_id, AudioFile(file), split, facts, track.partition("-")[0], track))
        skipped += [Skipped(mp3_path, NOT_ANNOTATED) for mp3_path in sorted(splits or ())]
        skipped += [Skipped(str(file), NO_ANNOTATION) for file in tree.unused(".mp3")]
        if not songs:
            first = "".join(f" (first problem: {each.what}: {each.why})" for each in skipped[:1])
            raise UserError(f"{root}: no clip can be used{first}; {LAYOUT}.")
        return Found(songs, len(songs), skipped, vocabulary)


def _annotations(file: Path, skipped: list[Skipped]) -> tuple[tuple[str, ...], dict[str, tuple[str, set[str]]]]:
    """Return the tags, and by path each clip's id and the tags that it has."""
    lines = rows(file, delimiter="\t")
    header = next(lines, ("", []))[1]
    tags = header[1:-1]
    missing = [tag for tag in MAGNATAGATUNE if tag not in tags]
    framed = header[:1] == ["clip_id"] and header[-1:] == ["mp3_path"]
    if not framed or missing or not len(tags) == len(set(tags)) == N_TAGS:
        raise UserError(
            f"{file}, line 1: expected clip_id, {N_TAGS} tags and mp3_path, separated by tabs, got {len(header)} "
            f"columns{f' without the tag {missing[0]}' if missing else ''}; "
            "take the file from the data set again."
        )
    clips: dict[str, tuple[str, set[str]]] = {}
    first: dict[str, str] = {}
    for where, cells in lines:
        clip_id, values, mp3_path = cells[0], cells[1:-1], cells[-1]
        whole = len(values) == N_TAGS and set(values) <= {"0", "1"}
        if not whole or not clip_id.isdecimal() or not re.fullmatch(r"[0-9a-f]/[^/]+\.mp3", mp3_path):
            skipped.append(Skipped(where, MALFORMED))
            continue
        for name in (clip_id, mp3_path):
            if name in first:
                raise UserError(f"{where}: {name} is there already ({first[name]}); take the file again.")
            first[name] = where
        clips[mp3_path] = clip_id, {tag for tag, value in zip(tags, values, strict=True) if value == "1"}
    return tuple(tags), clips


def _cleaned_split(folder: Path) -> dict[str, str]:
    """Return the split of each path in the lists."""
    splits: dict[str, str] = {}
    for split in ("train", "valid", "test"):
        file = folder / f"{split}.npy"
        try:
            with opened(file), file.open("rb") as stream:
                lines = np.load(stream, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise UserError(
                f"{file}: not a list of text as .npy ({error}); take it from the repository again."
            ) from error
        if lines.ndim != 1 or lines.dtype.kind != "U":
            raise UserError(f"{file}: expected lines of text, got {lines.dtype} of shape {lines.shape}; take it again.")
        for line in lines.tolist():
            index, _, mp3_path = line.partition("\t")
            if not index.isdecimal() or not mp3_path:
                raise UserError(
                    f"{file}: expected index<tab>mp3_path, got {line!r}; take it from the repository again."
                )
            if mp3_path in splits:
                raise UserError(f"{file}: {mp3_path} is in {splits[mp3_path]}.npy already; take the lists again.")
            splits[mp3_path] = split
    return splits


def _audio_folder(root: Path) -> Path:
    for folder in (root, root / "mp3", root / "audio"):
        if any((folder / name).is_dir() for name in FOLDERS):
            return folder
    raise UserError(f"{root}: no folder 0 to f of MP3s in it, in mp3/ or in audio/; unpack mp3.zip there.")


SOURCE = Magnatagatune()
