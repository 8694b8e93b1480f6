"""A phase vocoder that changes pitch and speed in one pass.

It follows Laroche and Dolson, "Improved phase vocoder time-scale modification of audio" (IEEE Transactions on Speech
and Audio Processing 7(3), 1999): bins around a spectral peak are turned together with it ("identity phase locking").
Three things are ours:

- The phase that a peak gains between two output frames is read off a second input frame, exactly one output hop before
  the first. So no frequency is estimated, and a steady tone keeps its pitch.
- Pitch is shifted by reading frames of another length than are written: ``n`` samples are transformed, the same bins
  are turned back into ``m`` samples, and every frequency is ``n / m`` times as high. That costs nothing, and needs no
  resampling.
- A peak whose power has risen by 12 dB within a hop has only begun. It takes the phase that it has in the input, and so
  do all others that begin with it: an attack stays one attack.
"""

from functools import cache

import numpy as np
import scipy.fft
from numba import njit

FRAME_S = 0.064
"""Length of an output frame. Of 32, 64 and 128 ms this kept both bass notes and drum strokes best."""
OVERLAP = 4
"""Frames that overlap at each sample."""
RESET_RATIO = 16.0
"""A peak has begun where its power is this many times what it was a hop before. Lower, and the frames of a soft attack
cancel each other; higher, and strokes smear. Of 2 to infinity this was best: see ``benchmarks/stretch_quality.py``."""
BLOCK = 32
"""Frames transformed at once: they stay in a core's cache."""
LENGTHENING_CENTS = 0.5
"""What an octave of departure from ``FRAME_S`` counts against an error in pitch."""


def stretch(audio: np.ndarray, sample_rate: int, semitones: float, rate: float, samples: int) -> np.ndarray:
    """Return audio at another pitch and speed: float32 ``(sample,)`` to ``(samples,)``.

    Output sample ``i`` is what the input holds at ``i * rate``. Past the input's ends there is silence.

    Args:
        audio: float32 ``(sample,)``.
        sample_rate: Hz.
        semitones: by which the pitch goes up; within an octave met to 2.5 cents at 32 kHz, 3.2 at 16 kHz, 5 at 8 kHz.
        rate: speed; above 1 is faster.
        samples: to return.
    """
    read, written = _lengths(round(FRAME_S * sample_rate), 2 ** (semitones / 12))
    hop = written // OVERLAP
    count = -(-samples // hop) + OVERLAP
    analysis, synthesis = _hann(read), _hann(written) * np.float32(written / read / (0.375 * OVERLAP))
    out = np.zeros(count * hop + written, dtype=np.float32)
    turned = np.zeros(read // 2 + 1, dtype=np.complex64)
    frames = np.empty((BLOCK, read), dtype=np.float32)
    for first in range(0, count, BLOCK):
        some = frames[: min(BLOCK, count - first)]
        # Frame 1 is centred on the first sample: frame 0 only says which phases come before.
        _cut(audio, first - 1, hop * rate, read // 2 + read // OVERLAP, analysis, some)
        before = scipy.fft.rfft(some)
        _cut(audio, first - 1, hop * rate, read // 2, analysis, some)
        now = scipy.fft.rfft(some)
        _lock(now, before, turned)
        _add(scipy.fft.irfft(now, written), synthesis, first * hop, hop, out)
    begin = written // 2 + hop
    return out[begin : begin + samples]


@cache
def _lengths(base: int, pitch: float) -> tuple[int, int]:
    """Return the lengths of input and output frames, in samples, near ``base`` and with the ratio ``pitch``.

    Both have small prime factors, for the FFT, and divide by the overlap: hops are whole samples then.
    """
    lengths = _fast_lengths(base)
    error = np.abs(1200 * np.log2(lengths[:, None] / lengths / pitch))
    departure = np.abs(np.log2(lengths[:, None] * lengths / base**2))
    read, written = np.unravel_index(np.argmin(error + LENGTHENING_CENTS * departure), error.shape)
    return int(lengths[read]), int(lengths[written])


@cache
def _fast_lengths(base: int) -> np.ndarray:
    smallest, largest = (max(OVERLAP, round(base * factor)) for factor in (0.6, 1.6))
    lengths = np.arange(smallest - smallest % OVERLAP, largest + 1, OVERLAP)
    rest = lengths.copy()
    for prime in (2, 3, 5, 7, 11, 13):
        while (divides := rest % prime == 0).any():
            rest[divides] //= prime
    return lengths[rest == 1]


@cache
def _hann(samples: int) -> np.ndarray:
    return np.hanning(samples + 1)[:-1].astype(np.float32)


@njit(cache=True, fastmath=True, nogil=True)
def _cut(
    audio: np.ndarray, first: int, step: float, before: int, window: np.ndarray, out: np.ndarray
) -> None:  # pragma: no cover - compiled
    """Cut windowed frames out of ``audio``; frame ``k`` begins ``before`` samples ahead of ``(first + k) * step``."""
    for k in range(out.shape[0]):
        start = int(np.round((first + k) * step)) - before
        low = min(max(0, -start), len(window))
        high = max(min(len(window), len(audio) - start), low)
        out[k, :low] = 0
        for i in range(low, high):
            out[k, i] = audio[start + i] * window[i]
        out[k, high:] = 0


@njit(cache=True, fastmath=True, nogil=True)
def _add(frames: np.ndarray, window: np.ndarray, first: int, hop: int, out: np.ndarray) -> None:  # pragma: no cover
    """Add windowed frames into ``out``, the first at sample ``first``."""
    for k in range(frames.shape[0]):
        for i in range(frames.shape[1]):
            out[first + k * hop + i] += frames[k, i] * window[i]


@njit(cache=True, fastmath=True, nogil=True)
def _lock(now: np.ndarray, before: np.ndarray, turned: np.ndarray) -> None:  # pragma: no cover - compiled
    """Turn the input spectra ``now`` ``(frame, bin)`` into output spectra, in place.

    ``before`` holds the input's spectra one output hop earlier, ``turned`` the last output frame, which is kept up to
    date. A peak is the largest of five bins; its region ends at the least bin between it and the next one.
    """
    bins = now.shape[1]
    power = np.empty(bins, np.float32)
    for k in range(now.shape[0]):
        row, old = now[k], before[k]
        for b in range(bins):
            power[b] = row[b].real * row[b].real + row[b].imag * row[b].imag
        begin, peak, b = 0, -1, 2
        while b < bins - 2:
            if power[b] < power[b + 1]:
                b += 1
                continue
            if power[b] > power[b - 1] and power[b] > power[b - 2] and power[b] >= power[b + 2]:
                if peak >= 0:
                    end = peak
                    for c in range(peak + 1, b):
                        if power[c] < power[end]:
                            end = c
                    turn = _turn(turned[peak], old[peak], power[peak])
                    for c in range(begin, end):
                        row[c] *= turn
                    begin = end
                peak = b
                b += 2
            b += 1
        turn = _turn(turned[peak], old[peak], power[peak]) if peak >= 0 else np.complex64(1)
        for c in range(begin, bins):
            row[c] *= turn
        turned[:] = row


@njit(cache=True, fastmath=True, nogil=True)
def _turn(turned: np.complex64, old: np.complex64, power: float) -> np.complex64:  # pragma: no cover - compiled
    """Return the turn, a complex number of modulus 1, that continues a peak from the output frame before."""
    product = turned * np.conj(old)
    modulus = np.sqrt(product.real * product.real + product.imag * product.imag)
    if modulus < 1e-20 or power > RESET_RATIO * (old.real * old.real + old.imag * old.imag):
        return np.complex64(1)
    return product / np.float32(modulus)
