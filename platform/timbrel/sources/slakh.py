"""The source `slakh`: Slakh2100 and BabySlakh, songs of the Lakh MIDI data set rendered with sampled instruments.

Licence: CC BY 4.0. Manilow, Wichern, Seetharaman and Le Roux, "Cutting music source separation some Slakh: a dataset to
study the impact of training data quality and quantity" (WASPAA 2019), http://www.slakh.com.

::

    slakh2100_flac_redux/                 babyslakh_16k/
    ├── train/                            ├── Track00001/
    │   ├── Track00001/                   │   ├── metadata.yaml
    │   │   ├── metadata.yaml             │   ├── MIDI/S00.mid
    │   │   ├── MIDI/S00.mid ...          │   └── stems/S00.wav
    │   │   └── stems/S00.flac ...        └── ...
    │   └── ...
    ├── validation/
    ├── test/
    └── omitted/      (redux: duplicates, left out and counted)

The folders are the split; BabySlakh has none, so its songs are divided at random. Of a stem are read the audio (.flac
or .wav), the notes in MIDI/, from which exactly that audio was rendered, and the program, 128 for drums. ``mix`` and
``all_src.mid`` are not: they are the sum of the stems, and MIDI that was still to be corrected.

* **Stems without audio.** Some rare instruments (sound effects) were not rendered. `metadata.yaml` says so of them, but
  BabySlakh's says so of every stem; hence a stem is left out for it only where its file is indeed not there.
* **Duplicates.** In the original 2100 tracks one MIDI file was often rendered twice, across splits too. Songs of one
  MIDI file (`UUID`, its MD5) are one group, and where the splits still share one, the tracks of the split that is the
  less tested are left out: those of train if valid or test has it, those of valid if test has it, so that 1330, 349 and
  225 tracks stay. Slakh2100-split2 and Slakh2100-redux are had from the original folders by naming `splits_v2.json` or
  `redux.json` of https://github.com/ethman/slakh-utils: ``--option split_file=PATH``.
* **Notes** are those that are heard: held by the sustain pedal (the MIDI files still have it), those of one pitch never
  overlapping, drums as long as written (see `sounding_notes`). They are cut where the audio ends, and left out where
  they begin after it; a stem with notes more than 5 s after the end of its audio is left out, as the two are hardly of
  one track. Audio that goes on without notes, or before the first, is what most stems have.
* **Programs.** The program is what the MIDI file asks for, the sound is that of the `plugin_name` in `metadata.yaml`:
  in Track00001 program 22, a harmonica, was rendered with an electric organ.

Why not with mirdata: its version 1.0 downloads an index of each version before it reads anything, and has none of the
original folders.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import yaml

from timbrel.errors import UserError
from timbrel.sources import midi_file
from timbrel.sources.audio import AudioFile
from timbrel.sources.base import Found, Header, Note, Performance, Skipped, Song, Stem
from timbrel.sources.folders import named
from timbrel.sources.soundfont import DRUMS, sounding_notes, until
from timbrel.taxonomy import TAXONOMY

FOLDERS = {"train": "train", "validation": "valid", "test": "test"}
"""The folders of the splits, and the split of each."""
OMITTED = "omitted"
LAYOUT = "expected folders TrackNNNNN with metadata.yaml, or such in train, validation and test"

IN_OMITTED = "in the folder 'omitted': a duplicate by the authors' own choice."
OMITTED_BY_FILE = "a duplicate that the split file omits."
NOT_RENDERED = "metadata.yaml says that the authors rendered no audio or saved no MIDI for it."
OTHER_SPLIT_HAS_IT = (
    "its MIDI file was rendered for a split that is tested on, too: give splits_v2.json or redux.json as "
    "`--option split_file=PATH`, or say `--option duplicates=keep`."
)

_EVALUATED = ("train", "valid", "test")
"""The later, the more its songs are wanted where they were."""
LATE_S = 5.0
"""How long after the end of the audio a note may begin: more, and the two are not of one track."""
_READERS = 16
"""Threads that read metadata: on a bucket each file is a round trip."""


@dataclass(frozen=True, kw_only=True)
class SlakhOptions:
    """What ``--option`` may set for the source ``slakh``."""

    split_file: str = ""
    """`splits_v2.json` or `redux.json`, applied to the original folders; a relative path starts at the data set's
    folder. Empty: the folders are the splits."""
    duplicates: Literal["omit", "keep"] = "omit"
    """What becomes of tracks whose MIDI file another split has, too: ``keep`` leaves them as the original Slakh2100
    does, so that what is tested on was also trained on."""
    longer_midi: Literal["omit", "cut"] = "omit"
    """What becomes of a stem whose MIDI file has notes that begin more than 5 s after the audio ended: ``cut`` stores
    it without them, for audio that is an excerpt from the beginning."""


@dataclass(frozen=True)
class SlakhStem:
    """Reads a stem's audio, and its notes from the MIDI file that it was rendered from."""

    audio: Path
    midi: Path

    longer_midi: Literal["omit", "cut"] = "omit"

    def __call__(self) -> Performance:
        """Return audio and notes; a note is cut where the audio ends.

        Raises:
            UserError: either file is missing or damaged, or the MIDI file is of longer music.
        """
        notes = sounding_notes(*midi_file.read(self.midi).instruments)
        performance = AudioFile(self.audio)()
        return replace(performance, notes=self._fitting(notes, performance.audio.shape[1] / performance.sample_rate))

    def header(self) -> Header:
        """Return what the audio file says of itself, once the MIDI file could be read and seems to belong to it."""
        notes = sounding_notes(*midi_file.read(self.midi).instruments)
        header = AudioFile(self.audio).header()
        self._fitting(notes, header.frames / header.sample_rate)
        return header

    def _fitting(self, notes: tuple[Note, ...], seconds: float) -> tuple[Note, ...]:
        last_s = max((note.onset_s for note in notes), default=0.0)
        if self.longer_midi == "omit" and last_s > seconds + LATE_S:
            raise UserError(
                f"{self.midi}: its last note begins at {last_s:.1f} s, but {self.audio.name} ends after {seconds:.1f} "
                "s: copy the track again, or say `--option longer_midi=cut` where the audio is an excerpt."
            )
        return until(notes, seconds)


@dataclass(frozen=True)
class _Track:
    """A folder of one track, and the split that it belongs to."""

    folder: Path
    split: str | None


class Slakh:
    """The source ``slakh``."""

    name = "slakh"
    summary = "Slakh2100 (original or redux) or BabySlakh: stems and their notes"
    needs_path = True
    options_type = SlakhOptions

    def find(self, path: Path | None, options: SlakhOptions) -> Found:
        """Describe the tracks at ``path``; metadata is read, audio and MIDI are not.

        Raises:
            UserError: no track is there, one lies in two splits, or the split file is not for these folders.
        """
        if path is None:
            raise UserError(f"the source 'slakh' needs a path: {LAYOUT}.")
        path = path.absolute()
        if not path.is_dir():
            raise UserError(f"{path}: no such folder; {LAYOUT}.")
        skipped: list[Skipped] = []
        try:
            tracks = list(_tracks(path, skipped))
            if options.split_file:
                given = Path(options.split_file).expanduser()
                file = given if given.is_absolute() else path / options.split_file
                tracks = list(_resplit(tracks, _read_split_file(file), file, skipped))
            with ThreadPoolExecutor(_READERS) as readers:
                read = list(readers.map(partial(_song, options=options), tracks))
        except OSError as error:
            where = error.filename or path
            raise UserError(f"{where}: cannot be read ({error.strerror or error}); {LAYOUT}.") from error
        songs = []
        for song, problems in read:
            skipped += problems
            songs += [song] if song else []
        if options.duplicates == "omit":
            songs = list(_without_leaks(songs, skipped))
        if not songs:
            first = "".join(f" (first problem: {item.what}: {item.why.rstrip('.')})" for item in skipped[:1])
            raise UserError(f"{path}: no usable track{first}; {LAYOUT}.")
        return Found(songs, len(songs), skipped)


def _tracks(root: Path, skipped: list[Skipped]) -> Iterator[_Track]:
    """Yield the tracks as they lie in the folders, without those in ``omitted``."""
    folders = [folder for folder in named(root, skipped) if folder.is_dir()]
    splits = [folder for folder in folders if folder.name in FOLDERS]
    owner: dict[str, str] = {}
    for folder in folders:
        if folder in splits:
            for track in _track_folders(folder, skipped):
                if (first := owner.setdefault(track.name, folder.name)) != folder.name:
                    raise UserError(f"{root}: {track.name} lies in {first} and in {folder.name}: remove one of them.")
                yield _Track(track, FOLDERS[folder.name])
        elif folder.name == OMITTED:
            skipped.extend(Skipped(str(track), IN_OMITTED) for track in _track_folders(folder, skipped))
        elif splits or not folder.name.startswith("Track"):
            skipped.append(Skipped(str(folder), f"not read: {LAYOUT}."))
        else:
            yield _Track(folder, None)


def _track_folders(folder: Path, skipped: list[Skipped]) -> list[Path]:
    return [track for track in named(folder, skipped) if track.is_dir()]


def _read_split_file(file: Path) -> dict[str, Any]:
    try:
        actions = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{file}: the split file cannot be read ({error.strerror or error}).") from error
    except ValueError as error:
        raise UserError(f"{file}: the split file is not JSON ({error}): download it again.") from error
    if not isinstance(actions, dict) or not all(isinstance(entry, dict) for entry in actions.values()):
        raise UserError(f"{file}: no split file of Slakh; expected splits_v2.json or redux.json of slakh-utils.")
    return actions


def _resplit(tracks: list[_Track], actions: dict[str, Any], file: Path, skipped: list[Skipped]) -> Iterator[_Track]:
    """Yield the tracks in the splits of ``splits_v2.json`` or ``redux.json``."""
    for track in tracks:
        name = track.folder.name
        entry = actions.get(name)
        if track.split is None or entry is None:
            found = "lies in no split" if track.split is None else "is not in it"
            raise UserError(f"{file}: {track.folder} {found}; a split file is for the folders of Slakh2100.")
        source, action = entry.get("source_split"), entry.get("action")
        if source is not None and FOLDERS.get(source) != track.split:
            raise UserError(
                f"{file}: expects {name} in '{source}', but {track.folder} is not: these are not the folders of the "
                "original Slakh2100; leave out split_file."
            )
        if action == "omit":
            skipped.append(Skipped(str(track.folder), OMITTED_BY_FILE))
        elif action == "move" and entry.get("destination_split") in FOLDERS:
            yield _Track(track.folder, FOLDERS[entry["destination_split"]])
        elif action is None:
            yield track
        else:
            raise UserError(f"{file}: {name} has the action {entry}; expected null, omit, or move to a split.")


def _song(track: _Track, options: SlakhOptions) -> tuple[Song | None, list[Skipped]]:
    """Return the song of a track, if it has any stem, and what was left out."""
    skipped: list[Skipped] = []
    file = track.folder / "metadata.yaml"
    try:
        metadata = yaml.load(file.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except FileNotFoundError:
        return None, [Skipped(str(track.folder), "it has no metadata.yaml: copy the track again.")]
    except OSError as error:
        return None, [Skipped(str(file), f"cannot be read ({error.strerror or error}).")]
    except (yaml.YAMLError, ValueError) as error:  # of text that is not UTF-8, of dates that are none
        return None, [Skipped(str(file), f"is not YAML ({' '.join(str(error).split())}): copy it again.")]
    if not isinstance(metadata, dict) or not isinstance(metadata.get("stems"), dict) or not metadata.get("UUID"):
        return None, [Skipped(str(file), "expected the keys UUID and stems: copy it again.")]
    audio = _by_name(track.folder / "stems", (".flac", ".wav"), skipped)
    notes = _by_name(track.folder / "MIDI", (".mid",), skipped)
    named_there = {str(name): facts for name, facts in metadata["stems"].items()}
    stems = []
    for name in sorted(named_there):
        stem = _stem(name, named_there[name], audio, notes, options)
        if isinstance(stem, Stem):
            stems.append(stem)
        else:
            skipped.append(Skipped(f"{track.folder}/{name}", stem))
    for name in sorted(audio.keys() - named_there.keys()):
        skipped.append(Skipped(str(audio[name]), "metadata.yaml does not name this stem."))
    if not stems:
        return None, [*skipped, Skipped(str(track.folder), "none of the track's stems can be used.")]
    return Song(track.folder.name, tuple(stems), split=track.split, group=str(metadata["UUID"])), skipped


def _by_name(folder: Path, suffixes: tuple[str, ...], skipped: list[Skipped]) -> dict[str, Path]:
    """Return the files in ``folder`` by their names without suffix; of two the first suffix counts."""
    files = [file for file in named(folder, skipped) if file.suffix in suffixes] if folder.is_dir() else []
    files.sort(key=lambda file: suffixes.index(file.suffix))
    found: dict[str, Path] = {}
    for file in files:
        if (first := found.setdefault(file.stem, file)) != file:
            skipped.append(Skipped(str(file), f"the same stem as a {first.suffix} file: remove one of them."))
    return found


def _stem(name: str, facts: Any, audio: dict[str, Path], notes: dict[str, Path], options: SlakhOptions) -> Stem | str:
    """Return the stem of these ``facts`` in metadata.yaml, or why there is none."""
    if not isinstance(facts, dict):
        return "metadata.yaml says nothing of it: copy it again."
    missing = [kind for kind, files in (("audio", audio), ("MIDI", notes)) if name not in files]
    if missing:
        if not (facts.get("audio_rendered") and facts.get("midi_saved")):
            return NOT_RENDERED
        return f"metadata.yaml names it, but its {' and its '.join(missing)} are not there: copy the track again."
    program = DRUMS if facts.get("is_drum") else facts.get("program_num")
    instrument = str(facts.get("midi_program_name") or facts.get("inst_class") or "")
    if program is None and TAXONOMY.lookup(instrument) is None:
        return str(TAXONOMY.unknown(instrument))
    if program is not None and not (isinstance(program, int) and 0 <= program <= DRUMS):
        return f"metadata.yaml gives the program {program!r}; expected 0 to {DRUMS}."
    return Stem(name, instrument, SlakhStem(audio[name], notes[name], options.longer_midi), program)


def _without_leaks(songs: list[Song], skipped: list[Skipped]) -> Iterator[Song]:
    """Yield the songs whose MIDI file no split has that is tested on more."""
    kept: dict[str, int] = {}
    for song in songs:
        if song.split is not None:
            kept[song.group] = max(kept.get(song.group, 0), _EVALUATED.index(song.split))
    for song in songs:
        if song.split is None or _EVALUATED.index(song.split) == kept[song.group]:
            yield song
        else:
            skipped.append(Skipped(song.name, OTHER_SPLIT_HAS_IT))


SOURCE = Slakh()
