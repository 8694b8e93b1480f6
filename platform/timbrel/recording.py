"""Recordings as users have them, decoded block by block: libsndfile's formats, and through ffmpeg any other."""

import shutil
import subprocess
import tempfile
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr

from timbrel.errors import UserError

_LOCAL = ("-protocol_whitelist", "file")
"""ffmpeg follows playlists, which may name addresses on a network: of those it opens none."""
BLOCK_S = 30.0
"""Audio is read this much at a time, so that long files need little memory."""


def mono_blocks(file: Path, rate: int) -> Generator[np.ndarray]:
    """Yield a recording as mono float32 blocks ``(sample,)`` at ``rate`` Hz, the mean of its channels.

    wav, flac, ogg, mp3 and aiff are read by libsndfile; what it does not know (m4a, wma, the sound of a video), by
    ffmpeg if the system has it.

    Raises:
        UserError: the file is missing, is no audio, or holds NaN.
    """
    if not file.is_file():
        raise UserError(f"there is no file {file}.")
    try:
        opened = soundfile.SoundFile(file)
    except soundfile.LibsndfileError as error:
        blocks = _by_ffmpeg(file, rate, str(error).rstrip("."))
    else:
        blocks = _by_libsndfile(opened, file, rate)
    for block in blocks:
        if not np.isfinite(block).all():
            raise UserError(f"{file} holds NaN or infinite samples.")
        yield block


def windows_of(blocks: Iterable[np.ndarray], hop: int, samples: int, *, whole: bool = False) -> Iterator[np.ndarray]:
    """Yield the windows ``(sample,)`` of a recording that comes block by block, one for each ``hop`` samples.

    A window lies around the middle of its hop, and there is silence beyond the ends. With ``whole`` it begins where its
    hop does, and what the end cuts off is left out, except of a recording that is shorter than one window.
    """
    lead = 0 if whole else (samples - hop) // 2
    # What is held: the audio from the next window's first sample on; silence before the beginning of the file.
    held = np.zeros(max(lead, 0), dtype=np.float32)
    skip = max(-lead, 0)
    length = emitted = 0
    for block in blocks:
        length += len(block)
        held = np.concatenate([held, block])
        while len(held) >= skip + samples:
            yield held[skip : skip + samples]
            held = held[hop:]
            emitted += 1
    for _ in range(emitted, min(length, 1) if whole else -(-length // hop)):
        window = held[skip : skip + samples]
        yield np.pad(window, (0, samples - len(window)))
        held = held[hop:]


def resampled(blocks: Iterable[np.ndarray], stored: int, rate: int) -> Iterator[np.ndarray]:
    """Yield mono blocks ``(sample,)`` of ``stored`` Hz at ``rate`` Hz."""
    if stored == rate:
        yield from blocks
        return
    resampler = soxr.ResampleStream(stored, rate, 1, dtype="float32")
    for block in blocks:
        yield resampler.resample_chunk(block)
    yield resampler.resample_chunk(np.zeros(0, dtype=np.float32), last=True)


def _by_libsndfile(opened: soundfile.SoundFile, file: Path, rate: int) -> Iterator[np.ndarray]:
    with opened:
        stored = opened.samplerate
        blocks = opened.blocks(round(BLOCK_S * stored), dtype="float32", always_2d=True)
        try:
            yield from resampled((block.mean(axis=1) for block in blocks), stored, rate)
        except soundfile.LibsndfileError as error:
            raise UserError(f"{file} can't be read to its end ({error}): it is damaged.") from None


def _by_ffmpeg(file: Path, rate: int, why: str) -> Iterator[np.ndarray]:
    if shutil.which("ffmpeg") is None:
        raise UserError(
            f"{file} can't be read as audio ({why}): give wav, flac, ogg, mp3 or aiff, or install ffmpeg, which "
            "reads the rest."
        )
    channels = _channels(file)
    command = ["ffmpeg", "-nostdin", "-v", "error", *_LOCAL, "-i", str(file.absolute()), "-map", "0:a:0"]
    command += ["-ar", str(rate), "-f", "f32le", "-"]
    wanted = 4 * channels * round(BLOCK_S * rate)
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)
        assert process.stdout is not None
        try:
            while content := process.stdout.read(wanted):
                whole = content[: len(content) - len(content) % (4 * channels)]
                # Averaged here, as for other files: ffmpeg's own mixing down is 3 dB louder.
                yield np.frombuffer(whole, dtype="<f4").reshape(-1, channels).mean(axis=1, dtype=np.float32)
        finally:
            process.stdout.close()  # ends an ffmpeg whose sound is no longer wanted
            status = process.wait()
        if status:
            errors.seek(0)
            raise _unreadable(file, errors.read())


def _channels(file: Path) -> int:
    command = ["ffprobe", "-v", "error", *_LOCAL, "-select_streams", "a:0"]
    command += ["-show_entries", "stream=channels", "-of", "csv=p=0"]
    answer = subprocess.run([*command, str(file.absolute())], capture_output=True, check=False)
    text = answer.stdout.decode(errors="replace").strip().strip(",")
    if answer.returncode or not text.isdigit() or not int(text):
        raise _unreadable(file, answer.stderr or b"it has no sound")
    return int(text)


def _unreadable(file: Path, said: bytes) -> UserError:
    lines = said.decode(errors="replace").strip().splitlines()
    return UserError(f"{file} can't be read as audio ({lines[-1] if lines else 'ffmpeg does not say why'}).")
