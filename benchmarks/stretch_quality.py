"""How well pitch and speed are changed, and at what cost: audiomentations' own way against ours.

Five kinds of stems are synthesised from formulas, so what they must sound like at another pitch and speed is known, not
estimated: the same formulas with other frequencies and times. Each way of changing them is held to that.

    python benchmarks/stretch_quality.py

Columns, each a mean over all changes (-4 to +4 semitones, 0.8 to 1.25 times as fast, two changes of both) and the
worst: error in pitch in cents, of the lowest partials of each note; error of onsets in ms; distance of the log-mel
spectrogram in dB, mean over 64 bands and all frames, down to 60 dB below the loudest. CPU ms are of a source of 4 s.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import audiomentations
import librosa
import numpy as np
import python_stretch
from tqdm import tqdm

from timbrel import markdown
from timbrel.mixing.effects import FastPitchTime, PitchTime, apply_frozen

RATE_HZ = 32_000
SECONDS = 4.0
CHANGES = [
    *((float(semitones), 1.0) for semitones in (-4, -3, -2, -1, 1, 2, 3, 4)),
    *((0.0, rate) for rate in (0.8, 0.9, 1.1, 1.25)),
    (2.0, 0.9),
    (-2.0, 1.1),
]


@dataclass(frozen=True)
class Note:
    """Partials that begin together and decay."""

    onset_s: float
    seconds: float
    frequencies_hz: np.ndarray
    amplitudes: np.ndarray
    phases: np.ndarray
    attack_s: float
    decay_s: float

    def sound(self, times_s: np.ndarray, pitch: float, rate: float) -> np.ndarray:
        """Return the note at ``times_s`` with frequencies times ``pitch``, ``rate`` times as fast."""
        since = times_s * rate - self.onset_s
        begin, end = np.searchsorted(since, [0, self.seconds])
        heard = since[begin:end]
        envelope = np.minimum(heard / self.attack_s, 1) * np.exp(-heard / self.decay_s)
        envelope *= np.minimum((self.seconds - heard) / 0.02, 1)
        # The phase follows real time, so that a stretched note keeps its pitch.
        angles = 2 * np.pi * pitch / rate * np.outer(self.frequencies_hz, heard) + self.phases[:, None]
        audible = self.frequencies_hz * pitch < 0.45 * RATE_HZ
        sound = np.zeros(len(times_s))
        sound[begin:end] = envelope * ((self.amplitudes * audible) @ np.sin(angles))
        return sound


@dataclass(frozen=True)
class Stem:
    """Notes, and which of the measures mean something for them."""

    notes: tuple[Note, ...]
    partials: int
    """Of each note, from the lowest on, whose pitch can be told from that of all others; 0: none."""
    onset_smoothing_s: float
    """One period of the lowest tone, over which energy is averaged to find onsets; 0: they are too soft to be found."""

    def sound(self, pitch: float = 1.0, rate: float = 1.0) -> np.ndarray:
        """Return the stem: float32 ``(sample,)``."""
        times_s = np.arange(round(SECONDS / rate * RATE_HZ)) / RATE_HZ
        sound = np.sum([note.sound(times_s, pitch, rate) for note in self.notes], axis=0)
        return (0.3 * sound / np.abs(sound).max()).astype(np.float32)


def stems() -> dict[str, Stem]:
    """Return the kinds of stems."""
    generator = np.random.default_rng(0)

    def tone(onset_s: float, f0: float, partials: int, attack_s: float, decay_s: float, seconds: float = 0.95) -> Note:
        numbers = np.arange(1, partials + 1)
        phases = generator.uniform(0, 2 * np.pi, partials)
        return Note(onset_s, seconds, f0 * numbers, 1.0 / numbers, phases, attack_s, decay_s)

    def noise(onset_s: float, seconds: float, low_hz: float, high_hz: float, count: int, decay_s: float) -> Note:
        frequencies = np.exp(generator.uniform(np.log(low_hz), np.log(high_hz), count))
        phases = generator.uniform(0, 2 * np.pi, count)
        return Note(onset_s, seconds, frequencies, np.ones(count), phases, 0.001, decay_s)

    chord = [tone(0.1, f0, 12, 0.02, 5.0, 3.8) for f0 in (220.0, 277.2, 329.6)]
    melody = [tone(0.1 + i, f0, 15, 0.02, 5.0) for i, f0 in enumerate((440.0, 523.3, 659.3, 392.0))]
    bass = [tone(0.1 + i, f0, 30, 0.004, 0.8) for i, f0 in enumerate((41.2, 55.0, 82.4, 110.0))]
    strokes = [noise(0.2 + 0.25 * i, 0.2, 300, 9000, 200, 0.03 + 0.03 * (i % 2)) for i in range(15)]
    rustle = [noise(0.05, 3.9, 100, 9000, 400, 20.0)]
    return {
        "melody": Stem(tuple(melody), partials=5, onset_smoothing_s=0.005),
        "chord": Stem(tuple(chord), partials=1, onset_smoothing_s=0),
        "bass": Stem(tuple(bass), partials=5, onset_smoothing_s=0.025),
        "percussive": Stem(tuple(strokes), partials=0, onset_smoothing_s=0.002),
        "noisy": Stem(tuple(rustle), partials=0, onset_smoothing_s=0),
    }


def pitch_errors_cents(audio: np.ndarray, stem: Stem, semitones: float, rate: float) -> np.ndarray:
    """Return by how much the partials are too high: ``(partial,)``, the lowest of each note."""
    errors = []
    for note in stem.notes:
        first, last = (round((note.onset_s + share * note.seconds) / rate * RATE_HZ) for share in (0.15, 0.9))
        segment = audio[first:last] * np.hanning(last - first)
        size = 1 << 19
        spectrum = np.abs(np.fft.rfft(segment, size))
        for frequency in note.frequencies_hz[: stem.partials] * 2 ** (semitones / 12):
            low, high = (round(frequency * 2 ** (cents / 1200) * size / RATE_HZ) for cents in (-100, 100))
            found = (low + np.argmax(spectrum[low : high + 1])) * RATE_HZ / size
            errors.append(1200 * np.log2(found / frequency))
    return np.array(errors)


def onset_errors_ms(audio: np.ndarray, stem: Stem, truth: np.ndarray, rate: float) -> np.ndarray:
    """Return by how much onsets come too late: ``(note,)``. An onset is where energy passes 30 % of its local peak."""
    reach, period = round(0.04 * RATE_HZ), round(stem.onset_smoothing_s * RATE_HZ)

    def found(sound: np.ndarray, at: int) -> int:
        energy = np.convolve(sound[max(at - reach, 0) : at + reach] ** 2, np.ones(period), "same")
        return int(np.argmax(energy > 0.3 * energy.max()))

    places = [round(note.onset_s / rate * RATE_HZ) for note in stem.notes]
    return np.array([(found(audio, at) - found(truth, at)) / RATE_HZ * 1000 for at in places])


def spectral_distance_db(audio: np.ndarray, truth: np.ndarray) -> float:
    """Return the mean difference of two sounds' log-mel spectrograms in dB."""

    def log_mel(sound: np.ndarray) -> np.ndarray:
        power = librosa.feature.melspectrogram(y=sound, sr=RATE_HZ, n_fft=2048, hop_length=512, n_mels=64)
        return librosa.power_to_db(power, ref=1.0, amin=1e-12, top_db=None)

    ours, theirs = log_mel(audio), log_mel(truth)
    floor = theirs.max() - 60
    return float(np.abs(np.maximum(ours, floor) - np.maximum(theirs, floor)).mean())


def stock(audio: np.ndarray, semitones: float, rate: float) -> np.ndarray:
    """Change pitch, then speed, with audiomentations' classes."""
    if semitones:
        audio = apply_frozen(audiomentations.PitchShift(p=1), audio, RATE_HZ, num_semitones=semitones)
    if rate != 1:
        audio = apply_frozen(audiomentations.TimeStretch(leave_length_unchanged=False, p=1), audio, RATE_HZ, rate=rate)
    return audio


def coarse(audio: np.ndarray, semitones: float, rate: float) -> np.ndarray:
    """Change both with the library that audiomentations uses, in frames of 64 ms that overlap twice."""
    stretch = python_stretch.Signalsmith.Stretch()
    stretch.configure(1, 2048, 1024)
    stretch.setTransposeSemitones(semitones)
    stretch.setTimeFactor(rate)
    return np.asarray(stretch.process(audio[None]))[0]


def ours(kind: type[PitchTime]) -> Callable[[np.ndarray, float, float], np.ndarray]:
    """Return one of our transforms as a function."""
    return lambda audio, semitones, rate: apply_frozen(kind(p=1), audio, RATE_HZ, semitones=semitones, rate=rate)


WAYS: dict[str, Callable[[np.ndarray, float, float], np.ndarray]] = {
    "stock": stock,
    "exact": ours(PitchTime),
    "fast": ours(FastPitchTime),
    "stock, coarse frames": coarse,
}


def measure(
    way: Callable[[np.ndarray, float, float], np.ndarray], stem: Stem, truths: list[np.ndarray]
) -> dict[str, list[float]]:
    """Return each measure for every change."""
    figures: dict[str, list[float]] = {"pitch_cents": [], "onset_ms": [], "spectrum_db": [], "cpu_ms": []}
    source = stem.sound()
    for (semitones, rate), truth in zip(CHANGES, truths, strict=True):
        # As many samples out as in a mixture, whatever the rate.
        began = time.process_time()
        changed = way(source, semitones, rate)
        figures["cpu_ms"].append((time.process_time() - began) * 1000 * rate)
        changed = np.pad(changed[: len(truth)], (0, max(0, len(truth) - len(changed))))
        if stem.partials:
            figures["pitch_cents"].append(float(np.abs(pitch_errors_cents(changed, stem, semitones, rate)).mean()))
        if stem.onset_smoothing_s:
            figures["onset_ms"].append(float(np.abs(onset_errors_ms(changed, stem, truth, rate)).mean()))
        figures["spectrum_db"].append(spectral_distance_db(changed, truth))
    return figures


def table(figures: dict[str, dict[str, dict[str, float]]]) -> str:
    """Return the figures for people: mean and worst over all changes of pitch and speed, a row a stem and way."""
    rows = []
    for name, ways in figures.items():
        for way, found in ways.items():
            errors = (
                f"{found[f'{key}_mean']:.1f} ({found[f'{key}_worst']:.1f})" if f"{key}_mean" in found else None
                for key in ("pitch_cents", "onset_ms", "spectrum_db")
            )
            rows.append([name, way, *errors, f"{found['cpu_ms_mean']:.1f}"])
    head = ["stem", "way", "pitch, cents (worst)", "onsets, ms (worst)", "spectrum, dB (worst)", "CPU ms a source"]
    return markdown.table(head, rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print figures for scripts")
    arguments = parser.parse_args()
    for way in WAYS.values():  # compile what is compiled
        way(stems()["bass"].sound(), 1.0, 1.1)
    figures: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for name, stem in stems().items():
        truths = [stem.sound(2 ** (semitones / 12), rate) for semitones, rate in CHANGES]
        figures[name] = {}
        for way, function in tqdm(WAYS.items(), desc=name, unit="way"):
            found = measure(function, stem, truths)
            figures[name][way] = {
                f"{key}_{kind}": summary(values)
                for key, values in found.items()
                if values
                for kind, summary in (("mean", statistics.fmean), ("worst", max))
            }
    print(json.dumps(figures, indent=1) if arguments.json else table(figures))


if __name__ == "__main__":
    main()
