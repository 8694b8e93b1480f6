"""How well notes are found in recordings, and pairs that do not match told from those that do.

Pieces are rendered with a SoundFont from MIDI files whose tempo was changed, by a ratio throughout and by a slow random
walk, so that the time of every note is known; then each recording is aligned to its own MIDI file as it was, to those
of other pieces, to its own two semitones higher, and to its own without the middle third.

    python benchmarks/alignment.py FOLDER_OF_MIDI

It prints the error of onsets (the median over notes and the 95 % quantile, each as the median over pieces), and of each
kind of pair what it costs (see `timbrel.sources.alignment.Alignment`) and how many cost no more than a threshold.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import pretty_midi
from tqdm import tqdm

from timbrel import markdown
from timbrel.sources import midi_file
from timbrel.sources.alignment import align
from timbrel.sources.base import Note
from timbrel.sources.soundfont import DRUMS, TAIL_S, find_soundfont, perform, sounding_notes

RATE_HZ = 22_050
KINDS = ("match", "other piece", "other key", "third cut")
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.85)


def notes_of(parsed: pretty_midi.PrettyMIDI) -> list[Note]:
    """Return the notes of all programs, in the order of tracks."""
    tracks = midi_file.tracks_by_program(parsed)
    return [note._replace(program=program) for program in sorted(tracks) for note in sounding_notes(*tracks[program])]


def piece(file: Path, seconds: float) -> pretty_midi.PrettyMIDI:
    """Return the beginning of a piece."""
    parsed = midi_file.read(file)
    for track in parsed.instruments:
        track.notes = [note for note in track.notes if note.end <= seconds]
    return parsed


def warped(parsed: pretty_midi.PrettyMIDI, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Change the tempo of a piece, and return which of its times became which."""
    before = np.arange(0, parsed.get_end_time() + 10, 1.0)
    walk = np.cumsum(generator.normal(0, 0.03, len(before)))
    ratio = generator.uniform(0.85, 1.15) * np.exp(np.clip(walk - walk.mean(), -0.15, 0.15))
    after = np.concatenate([[0], np.cumsum(ratio[:-1])]) + generator.uniform(0, 2)
    for track in parsed.instruments:
        for note in track.notes:
            note.start, note.end = np.interp([note.start, note.end], before, after)
        for event in (*track.control_changes, *track.pitch_bends):
            event.time = float(np.interp(event.time, before, after))
    return before, after


def without_middle(notes: list[Note]) -> list[Note]:
    """Return the first and the last third of a piece, one after the other."""
    third = max(note.offset_s for note in notes) / 3
    last = [note for note in notes if note.onset_s >= 2 * third]
    return [
        *(note for note in notes if note.onset_s < third),
        *(note._replace(onset_s=note.onset_s - third, offset_s=note.offset_s - third) for note in last),
    ]


def render(parsed: pretty_midi.PrettyMIDI, soundfont: Path) -> np.ndarray:
    """Return the recording of a piece, of shape ``(1, sample)``."""
    seconds = max(note.end for track in parsed.instruments for note in track.notes) + TAIL_S
    tracks = midi_file.tracks_by_program(parsed).values()
    return np.sum([perform(each, soundfont, RATE_HZ, seconds).audio for each in tracks], axis=0)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pieces", type=int, default=26)
    parser.add_argument("--others", type=int, default=3, help="of other pieces that each recording is aligned to")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each piece")
    parser.add_argument("--soundfont", default="")
    parser.add_argument("--json", type=Path, help="where to keep the figures")
    options = parser.parse_args()
    soundfont = find_soundfont(options.soundfont)
    generator = np.random.default_rng(0)
    files = sorted(options.folder.glob("*.mid"))
    files = [files[index] for index in generator.permutation(len(files))[: options.pieces]]
    written = [notes_of(piece(file, options.seconds)) for file in files]
    rows = []
    for number, file in enumerate(tqdm(files)):
        parsed = piece(file, options.seconds)
        if not any(note.program != DRUMS for note in written[number]):
            continue
        before, after = warped(parsed, generator)
        audio = render(parsed, soundfont)
        started = time.perf_counter()
        alignment = align(audio, RATE_HZ, written[number])
        seconds = time.perf_counter() - started
        heard = np.array([note.onset_s for note in alignment.warp(written[number])])
        true = np.interp([note.onset_s for note in written[number]], before, after)
        errors_ms = 1000 * np.abs(heard - true)
        others = [
            align(audio, RATE_HZ, written[(number + 1 + shift) % len(files)]).cost for shift in range(options.others)
        ]
        higher = [note._replace(pitch=note.pitch + 2) for note in written[number]]
        rows.append(
            {
                "piece": file.stem,
                "seconds": audio.shape[1] / RATE_HZ,
                "align_s": seconds,
                "median_ms": float(np.median(errors_ms)),
                "p95_ms": float(np.percentile(errors_ms, 95)),
                "match": [alignment.cost],
                "other piece": others,
                "other key": [align(audio, RATE_HZ, higher).cost],
                "third cut": [align(audio, RATE_HZ, without_middle(written[number])).cost],
            }
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    medians = [row["median_ms"] for row in rows]
    cpu_s = sum(row["align_s"] for row in rows) / sum(row["seconds"] for row in rows)
    print(
        f"onsets of {len(rows)} pieces: median {np.median(medians):.0f} ms (worst piece {max(medians):.0f} ms), "
        f"95 % {np.median([row['p95_ms'] for row in rows]):.0f} ms; {60 * cpu_s:.1f} s a minute of music"
    )
    costs = {kind: np.concatenate([row[kind] for row in rows]) for kind in KINDS}
    lines = [
        [kind, len(each), *(f"{value:.2f}" for value in np.quantile(each, (0, 0.5, 1)))]
        + [f"{np.mean(each <= limit):.0%}" for limit in THRESHOLDS]
        for kind, each in costs.items()
    ]
    head = [
        "pairs",
        "number",
        "lowest cost",
        "median",
        "highest",
        *(f"let through at {limit:g}" for limit in THRESHOLDS),
    ]
    print(markdown.table(head, lines))


if __name__ == "__main__":
    main()
