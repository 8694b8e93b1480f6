"""What `medleydb` and `mixing_secrets` share: folders of songs, each described by a file of metadata in YAML.

What a stem holds is one instrument or several, in the data set's own words. What is done with them:

* **Several instruments in one stem** (a list in the metadata): if all switch on the same classes (``male singer`` and
  ``vocalists``) the stem goes by the first of them. If not, it is left out: nothing says which of them is heard when.
* **Outside the taxonomy** (``Main System``, ``Unlabeled``, ``fx/processed sound``) or unknown to it: left out.
* **Bleed**: songs with ``has_bleed: yes``, and stems known to bleed though their songs are not marked, are left out
  unless ``bleed=keep``: in a mixture of stems from several songs, what bleeds would be heard without a label.

All of it is reported. The activity of the others is judged as if what was left out had not been played.

An artist is who the metadata say. As these spell one artist in several ways (``SWEAT``, ``Sweat``), or add a guest,
songs whose names begin alike (``Artist_Title``) are by the artist of the first of them. A remix, ``<song>...Remix``,
always falls into the split of its song.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml

from timbrel.errors import UserError, one_line
from timbrel.safety import is_inside
from timbrel.sources.audio import AudioFile
from timbrel.sources.base import Found, Skipped, Song, Stem
from timbrel.sources.folders import named
from timbrel.taxonomy import TAXONOMY

_SUFFIX = "_METADATA.yaml"
_YES_NO = {"yes": True, "true": True, "no": False, "false": False}

_BLEEDS = "other instruments are heard in its stems (has_bleed: yes): say --option bleed=keep to take it."
_STEM_BLEEDS = "another instrument is heard in it, as was found after the release: say --option bleed=keep to take it."
_NO_AUDIO = "its metadata are here but its audio is not: add its folder, or leave it so."
_NO_METADATA = "no metadata: expected <song>_METADATA.yaml in it, or in the data set's own folder of them."
_SEVERAL = "it holds several instruments of different classes: nothing says which is heard when."


@dataclass(frozen=True, kw_only=True)
class MedleyOptions:
    """What ``--option`` may set for `medleydb` and `mixing_secrets`."""

    bleed: Literal["skip", "keep"] = "skip"
    """Whether songs and stems in which other instruments bleed are left out or taken."""


@dataclass(frozen=True)
class Layout:
    """Where one of the data sets keeps its parts; folders are relative to its root."""

    audio: tuple[str, ...]
    """Folders of songs; where none is there the root is one."""
    metadata: tuple[str, ...]
    """Folders of metadata: these come before metadata beside the audio, as they are kept up to date."""
    expected: str
    """The layout in a sentence, for messages."""
    bleeding: frozenset[str] = frozenset()
    """Files of stems that bleed though their songs are not marked."""


class _Metadata(NamedTuple):
    """What a song's file says."""

    file: Path
    artist: str
    has_bleed: bool
    stem_dir: str
    stems: Mapping[str, Any]


def find(path: Path, options: MedleyOptions, layout: Layout) -> Found:
    """Describe the songs below ``path``; reads their metadata, opens no audio.

    Raises:
        UserError: no song can be used.
    """
    path = path.absolute()  # Stems are read by processes with another working directory.
    skipped: list[Skipped] = []
    try:
        folders = _song_folders(path, layout, skipped)
        files = _metadata_files(path, layout, folders, skipped)
        metadata = dict(_read_all(folders, files, skipped))
        songs = list(_songs(folders, metadata, options, layout, skipped))
    except OSError as error:
        raise UserError(
            f"{error.filename or path}: cannot be read ({error.strerror or error}); {layout.expected}."
        ) from error
    if not songs:
        first = "".join(f" (first problem: {s.what}: {s.why.rstrip('.')})" for s in skipped[:1])
        raise UserError(f"{path}: no usable song{first}; {layout.expected}.")
    return Found(songs, len(songs), skipped)


def _song_folders(root: Path, layout: Layout, skipped: list[Skipped]) -> dict[str, Path]:
    """Return the songs' folders by name."""
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; {layout.expected}.")
    folders: dict[str, Path] = {}
    for base in [root / name for name in layout.audio if (root / name).is_dir()] or [root]:
        for folder in named(base, skipped):
            if not folder.is_dir() or (base == root and not (folder / f"{folder.name}_STEMS").is_dir()):
                continue  # the root holds other things besides
            if folder.name in folders:
                twin = folders[folder.name]
                skipped.append(Skipped(str(folder), f"a song of that name lies in {twin.parent}: remove one of them."))
                continue
            folders[folder.name] = folder
    return folders


def _metadata_files(root: Path, layout: Layout, folders: Mapping[str, Path], skipped: list[Skipped]) -> dict[str, Path]:
    """Return the files of metadata by the name of their song, and report those without audio."""
    files: dict[str, Path] = {}
    for base in [root / name for name in layout.metadata if (root / name).is_dir()]:
        for file in named(base, skipped):
            if file.name.endswith(_SUFFIX):
                files.setdefault(file.name.removesuffix(_SUFFIX), file)
    skipped += [Skipped(name, _NO_AUDIO) for name in sorted(files) if name not in folders]
    return files


def _read_all(
    folders: Mapping[str, Path], files: Mapping[str, Path], skipped: list[Skipped]
) -> Iterator[tuple[str, _Metadata]]:
    """Yield the name and the metadata of each song that has audio."""
    for name, folder in sorted(folders.items()):
        file = files.get(name, folder / f"{name}{_SUFFIX}")
        try:
            yield name, _read(file, name)
        except FileNotFoundError:
            skipped.append(Skipped(str(folder), _NO_METADATA))
        except UserError as error:
            skipped.append(Skipped(str(file), str(error)))


def _read(file: Path, name: str) -> _Metadata:
    """Read and check one file of metadata.

    Raises:
        FileNotFoundError: it is not there.
        UserError: it cannot be used; the caller names the file.
    """
    try:
        values = yaml.load(file.read_text(encoding="utf-8"), _Loader)
    except UnicodeDecodeError as error:
        raise UserError("the metadata are not UTF-8 text: save them as such.") from error
    except yaml.YAMLError as error:
        raise UserError(f"the metadata are not YAML ({one_line(str(error))}): copy the file again.") from error
    stems = values.get("stems") if isinstance(values, dict) else None
    if not isinstance(stems, dict) or not stems:
        raise UserError("the metadata list no stems: expected 'stems: {S01: {filename, instrument}, ...}'.")
    bleed = _YES_NO.get(str(values.get("has_bleed")).lower())
    if bleed is None:
        raise UserError(f"has_bleed is {values.get('has_bleed')!r}: expected yes or no.")
    artist = str(values.get("artist") or name.split("_")[0]).strip()
    return _Metadata(file, artist, bleed, str(values.get("stem_dir") or f"{name}_STEMS"), stems)


_BaseLoader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # in C, where PyYAML was built so: ten times as fast


class _Loader(_BaseLoader):
    """Leaves every value the text that it is, and refuses a key that is there twice.

    `yaml.safe_load` would make numbers, dates and truth values of some artists and titles, and take the last of two
    stems of one name in silence.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"'{key.value}' is there twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _songs(
    folders: Mapping[str, Path],
    metadata: Mapping[str, _Metadata],
    options: MedleyOptions,
    layout: Layout,
    skipped: list[Skipped],
) -> Iterator[Song]:
    artists: dict[str, str] = {}
    for name, song in metadata.items():
        artist = artists.setdefault(name.split("_")[0], song.artist)
        if song.has_bleed and options.bleed == "skip":
            skipped.append(Skipped(name, _BLEEDS))
            continue
        bleeding = layout.bleeding if options.bleed == "skip" else frozenset()
        stems = tuple(_stems(folders[name], song, bleeding, skipped))
        if stems:
            yield Song(name, stems, artist, group=_group(name, folders))
        else:
            skipped.append(Skipped(name, "none of its stems can be used."))


def _group(name: str, names: Mapping[str, Path]) -> str:
    """Return the song of which ``name`` is a remix, if it is one."""
    if not name.endswith("Remix"):
        return ""
    return max((other for other in names if other != name and name.startswith(other)), key=len, default="")


def _stems(folder: Path, song: _Metadata, bleeding: frozenset[str], skipped: list[Skipped]) -> Iterator[Stem]:
    """Yield the stems that can be used, by the names that the metadata and MedleyDB's annotations give them (S01)."""
    home = folder / song.stem_dir
    if not is_inside(song.stem_dir):
        skipped.append(Skipped(str(song.file), f"its stem_dir, {song.stem_dir}, leads out of {folder}: correct it."))
        return
    if not home.is_dir():
        skipped.append(Skipped(str(home), f"no such folder ({song.file.name}): copy the song again."))
        return
    files = {file.name: file for file in named(home, skipped) if file.is_file()}
    listed: dict[str, str] = {}
    for key, stem in song.stems.items():
        where = f"{song.file}, {key}"
        name = str(stem.get("filename") or "") if isinstance(stem, dict) else ""
        if not name:
            skipped.append(Skipped(where, "the stem names no file: expected 'filename' and 'instrument'."))
        elif name in listed:
            skipped.append(Skipped(where, f"names {name}, as {listed[name]} does: correct one of them."))
        elif name not in files:
            skipped.append(Skipped(str(home / name), f"no such file ({song.file.name}, {key}): copy the song again."))
        elif name in bleeding:
            skipped.append(Skipped(str(home / name), _STEM_BLEEDS))
        else:
            try:
                yield Stem(str(key), _instrument(stem.get("instrument")), AudioFile(files[name]))
            except UserError as error:
                skipped.append(Skipped(where, str(error)))
        listed.setdefault(name, str(key))
    for name in sorted(files.keys() - listed.keys()):
        skipped.append(Skipped(str(home / name), f"{song.file.name} does not name it: add it there, or remove it."))


def _instrument(value: object) -> str:
    """Return the instrument by which a stem goes.

    Raises:
        UserError: there is none, or the stem holds several of different classes.
    """
    names = [name.strip() for name in (value if isinstance(value, list) else [value]) if isinstance(name, str)]
    if not any(names):
        raise UserError("the stem names no instrument: expected 'filename' and 'instrument'.")
    entries = [TAXONOMY.require(name) for name in names]
    if len({entry.classes for entry in entries}) > 1:
        raise UserError(_SEVERAL)
    if entries[0].family is None:
        raise UserError(f"'{names[0]}' is outside the taxonomy: {entries[0].note}.")
    return names[0]
