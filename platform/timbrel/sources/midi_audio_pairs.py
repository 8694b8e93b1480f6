"""The source `midi_audio_pairs`: recordings of whole pieces with the MIDI files of what is played.

::

    pairs/                     or        pairs/
    ├── 0017.mp3                         ├── mp3/
    ├── 0017.mid                         │   └── 0017.mp3
    └── any/depth/                       └── mid/
        ├── waltz.wav                        └── 0017.mid
        └── waltz.midi

A recording (.wav, .flac, .ogg, .mp3, .aif, .aiff) and a MIDI file (.mid, .midi) of one name are a pair: in the same
folder, else wherever they are, if no other is called so. This is the shape of the MuseScore set with which Hung, Chen
and Yang trained ("Multitask learning for frame-level instrument recognition", ICASSP 2019); it was never released, and
MuseScore's interface is gone, so bring recordings of your own, or render some.

The notes are moved to where they are heard in the recording by dynamic time warping of chroma: see
`timbrel.sources.alignment`. That happens when a recording is stored, in parallel, and takes some 2 s for three
minutes. Pairs that do not match are left out and listed with their cost: the mean distance of the frames that were
matched over that of any two, so 0 if they are alike, and 1 if they were matched by chance. How much is too much was
found with `benchmarks/alignment.py`: the first minute of 26 pieces from Mutopia and Freedoom, rendered with their
tempo changed by up to 15 % throughout and as much again on the way, aligned to

============================  ======  ===================  ==================  ==================
MIDI file                     pairs   cost (median)        let through at 0.7  let through at 0.8
============================  ======  ===================  ==================  ==================
its own                       26      0.38 - 0.94 (0.62)   65 %                88 %
that of another piece         78      0.84 - 1.03 (0.97)   0                   0
its own, two semitones up     26      0.81 - 1.05 (0.93)   0                   0
its own, the middle cut out   26      0.54 - 1.01 (0.76)   46 %                58 %
============================  ======  ===================  ==================  ==================

So ``max_cost`` is 0.8. It tells other pieces, but not another version of the piece, such as one with repeats that the
other lacks: those come through, with notes where none are played. Without drums all is clearer; the 11 pieces of
Mutopia, which have none, cost 0.53 at most: ``--option max_cost=0.55`` for such. Onsets are found to 22 ms in the
median and 71 ms in 95 % of cases (medians over pieces); where a riff is repeated, or drums play alone, they may be
seconds off. All this is with a synthesizer's recordings. Of musicians, who do not play what is written, expect worse,
and listen to some pairs near the limit.

The first note is taken to be where the recording begins to sound, the last to end where it falls silent, whatever
silence is before and after in either. So both are to be whole: a second that one of them lacks makes no difference
that matters, but a minute would be stretched over. Where they differ by more than 10 s the pair is left out and listed
if one lasts more than twice as long as the other, or if it costs clearly less to align to as much of the longer one as
the shorter one lasts.

Each recording is one stem, a ``mix``, which holds all its notes; each note says by which program it is played.
``velocity`` is as written. Pairs with the same MIDI file fall into the same split.

Notes are those that are heard: held by the sustain pedal, those of one program and pitch never overlapping, drums as
long as written (see `sounding_notes`); they are cut where the recording ends. All that is before they are aligned, so
players who pedal otherwise than written sound longer or shorter than their notes say.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from annotated_types import Gt

from timbrel.errors import UserError
from timbrel.sources import midi_file
from timbrel.sources.alignment import align, check_ends, check_lengths, written_seconds
from timbrel.sources.audio import AudioFile
from timbrel.sources.base import Found, Header, Note, Performance, Skipped, Song, Stem
from timbrel.sources.folders import named
from timbrel.sources.soundfont import sounding_notes, until

AUDIO = (".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff")
UNREADABLE = (".m4a", ".aac", ".mp4", ".wma", ".opus")
LAYOUT = "expected recordings and MIDI files of the same name, such as 0017.mp3 and 0017.mid"

NO_MIDI = "a recording without a MIDI file of its name (.mid, .midi): add one, or take it out."
NO_AUDIO = f"a MIDI file without a recording of its name ({', '.join(AUDIO)}): add one, or take it out."
AMBIGUOUS = "several files have this name, none of them in the folder of its partner: put pairs into one folder."

MAX_COST = 0.8
"""See above for how it was found."""


@dataclass(frozen=True, kw_only=True)
class MidiAudioPairsOptions:
    """What ``--option`` may set for the source ``midi_audio_pairs``."""

    max_cost: Annotated[float, Gt(0)] = MAX_COST
    """Pairs whose alignment costs more than this do not match: 0 for what is alike, 1 for what is aligned by chance."""


@dataclass(frozen=True)
class Pair:
    """Reads a recording, and its MIDI file's notes at the recording's times."""

    audio: Path
    midi: Path
    max_cost: float

    def __call__(self) -> Performance:
        """Return the recording and its notes.

        Raises:
            UserError: either file is missing, damaged, or without anything to align, or the two do not match.
        """
        notes = self.notes()
        performance = AudioFile(self.audio)()
        try:
            alignment = align(performance.audio, performance.sample_rate, notes)
            check_lengths(notes, alignment.heard_s)
        except UserError as error:
            raise UserError(f"{self.audio}: {error}") from error
        if alignment.cost > self.max_cost:
            raise UserError(
                f"{self.audio}: does not match {self.midi.name}; aligning them costs {alignment.cost:.2f}, more than "
                f"max_cost={self.max_cost:g}: is it the same version of the same piece?"
            )
        try:
            check_ends(performance.audio, performance.sample_rate, notes, alignment)
        except UserError as error:
            raise UserError(f"{self.audio}: {error}") from error
        seconds = performance.audio.shape[1] / performance.sample_rate
        return replace(performance, notes=until(alignment.warp(notes), seconds))

    def header(self) -> Header:
        """Return what the recording says of itself, once the MIDI file could be read and may belong to it."""
        notes = self.notes()
        header = AudioFile(self.audio).header()
        seconds = header.frames / header.sample_rate
        if written_seconds(notes) > seconds:  # A longer recording may be mostly silent: only reading it would show.
            try:
                check_lengths(notes, seconds)
            except UserError as error:
                raise UserError(f"{self.audio}: {error}") from error
        return header

    def notes(self) -> tuple[Note, ...]:
        """Return the notes as the MIDI file has them, ordered by onset, each with its program."""
        tracks = midi_file.tracks_by_program(midi_file.read(self.midi))
        notes = [note._replace(program=program) for program in tracks for note in sounding_notes(*tracks[program])]
        if not notes:
            raise UserError(f"{self.midi}: holds no note: take it out, with its recording.")
        return tuple(sorted(notes))


class MidiAudioPairs:
    """The source ``midi_audio_pairs``."""

    name = "midi_audio_pairs"
    summary = "recordings with MIDI files of the same name, whose notes are aligned to them"
    needs_path = True
    options_type = MidiAudioPairsOptions

    def find(self, path: Path | None, options: MidiAudioPairsOptions) -> Found:
        """Describe the pairs under ``path``; recordings are not opened, and MIDI files only for their digest.

        Raises:
            UserError: there is no pair.
        """
        if path is None:
            raise UserError(f"the source 'midi_audio_pairs' needs a path: {LAYOUT}.")
        path = path.absolute()
        if not path.is_dir():
            raise UserError(f"{path}: no such folder; {LAYOUT}.")
        skipped: list[Skipped] = []
        try:
            pairs = sorted(_pairs(list(_files(path, skipped)), skipped))
        except OSError as error:
            where = error.filename or path
            raise UserError(f"{where}: cannot be read ({error.strerror or error}); {LAYOUT}.") from error
        if not pairs:
            first = "".join(f" (first problem: {item.what}: {item.why.rstrip('.')})" for item in skipped[:1])
            raise UserError(f"{path}: no pair{first}; {LAYOUT}.")
        return Found(_songs(path, pairs, options, skipped), len(pairs), skipped)


def _files(folder: Path, skipped: list[Skipped]) -> Iterator[Path]:
    """Yield the recordings and MIDI files under ``folder``."""
    for path in named(folder, skipped):
        suffix = path.suffix.lower()
        if path.is_dir():
            yield from _files(path, skipped)
        elif suffix in UNREADABLE:
            skipped.append(Skipped(str(path), f"{suffix} is not read: convert it to .wav or .flac."))
        elif suffix in AUDIO or suffix in midi_file.SUFFIXES:
            yield path


def _pairs(files: list[Path], skipped: list[Skipped]) -> Iterator[tuple[Path, Path]]:
    """Yield recordings with their MIDI files: those of one folder first, then those of one name."""
    left: dict[str, list[Path]] = defaultdict(list)
    for together in _together(files):
        audio, midi = _by_kind(together)
        for extra in audio[1:] + midi[1:]:
            first = audio[0] if extra in audio else midi[0]
            skipped.append(Skipped(str(extra), f"named like {first.name}: rename or remove one of them."))
        if audio and midi:
            yield audio[0], midi[0]
        else:
            left[together[0].stem].append((audio + midi)[0])
    for apart in left.values():
        audio, midi = _by_kind(apart)
        if len(audio) == len(midi) == 1:
            yield audio[0], midi[0]
        elif audio and midi:
            skipped.extend(Skipped(str(file), AMBIGUOUS) for file in apart)
        else:
            skipped.extend(Skipped(str(file), NO_MIDI if audio else NO_AUDIO) for file in apart)


def _together(files: list[Path]) -> Iterable[list[Path]]:
    """Return the files of each folder and name."""
    groups: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for file in files:
        groups[str(file.parent), file.stem].append(file)
    return groups.values()


def _by_kind(files: list[Path]) -> tuple[list[Path], list[Path]]:
    audio = [file for file in files if file.suffix.lower() in AUDIO]
    return audio, [file for file in files if file not in audio]


def _songs(
    root: Path, pairs: list[tuple[Path, Path]], options: MidiAudioPairsOptions, skipped: list[Skipped]
) -> Iterator[Song]:
    taken: set[str] = set()
    for audio, midi in pairs:
        name = "__".join(audio.relative_to(root).with_suffix("").parts)
        if name in taken:
            skipped.append(Skipped(str(audio), f"another recording would be called '{name}', too: rename it."))
            continue
        taken.add(name)
        try:
            group = midi_file.digest(midi.read_bytes())
        except OSError as error:
            skipped.append(Skipped(str(midi), f"cannot be read ({error.strerror or error})."))
            continue
        yield Song(name, (Stem("mix", "mix", Pair(audio, midi, options.max_cost)),), group=group)


SOURCE = MidiAudioPairs()
