"""The config of task clip_tagging: the published values as defaults."""

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from annotated_types import Ge, Gt

from tasks.clip_tagging.systems import LINEAR_LR, LINEAR_LRS, SYSTEMS, UNTAUGHT, System
from timbrel.clip_labels import Vocabulary
from timbrel.mixing.recipe import Recipe, whole_song
from timbrel.settings import Evaluation, Experiment, Training
from timbrel.teaching.config import TeacherConfig

StudentName = Literal["cp_resnet", "mobile_fcn", "small"]

PUBLISHED_WIDTHS: dict[StudentName, int] = {"cp_resnet": 128, "mobile_fcn": 64, "small": 16}
LEAST_FRAMES: dict[StudentName, int] = {"cp_resnet": 15, "mobile_fcn": 96, "small": 48}
"""Frames of the front end that leave one in the last stage."""
BANDS_OF: dict[StudentName, int] = {"cp_resnet": 1, "mobile_fcn": 32, "small": 32}
"""What the bands must be a multiple of."""
ADAM_LINEAR_LR = 0.01
CLIP = whole_song(sample_rate=32_000, seconds=10.0)
"""A clip of OpenMIC, or ten seconds of a song."""


@dataclass(frozen=True, kw_only=True)
class FrontEndConfig:
    """Log-mel spectrogram of EAsT: a window of 50 ms and a hop of 20 ms at 16 kHz, half of that at 32 kHz."""

    bands: Annotated[int, Ge(16)] = 128
    """Mel bands from 0 Hz to half the sample rate (OpenMIC 128, MagnaTagATune 96)."""
    fft: Annotated[int, Ge(2)] = 1024
    """Samples of the Fourier transform; even."""
    window: Annotated[int, Ge(2)] = 800
    """Samples of its Hann window, in its middle."""
    hop: Annotated[int, Ge(1)] = 320
    """Samples between frames."""

    def __post_init__(self) -> None:
        if self.fft % 2:
            raise ValueError(f"fft ({self.fft}) must be even")
        if self.window > self.fft:
            raise ValueError(f"window ({self.window}) must not exceed fft ({self.fft})")

    def frames(self, samples: int) -> int:
        """Return how many frames so many samples give; the pre-emphasis takes one."""
        return (samples - 1) // self.hop + 1


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What is varied in training; the defaults are those of OpenMIC, MagnaTagATune has none of it."""

    mixup: Annotated[float, Ge(0)] = 0.3
    """Parameter of the beta distribution that says how two examples are mixed, always so that more than half is the
    first's; 0: no mixup."""
    low_jitter_hz: Annotated[int, Ge(0)] = 20
    """The lowest band begins at less than this many Hz, drawn for each example."""
    high_jitter_hz: Annotated[int, Ge(0)] = 2000
    """The highest band ends less than this many Hz below half the sample rate, drawn for each example."""
    band_mask: Annotated[int, Ge(0)] = 48
    """Bands that are masked side by side: fewer than this many; 0: none."""
    frame_mask: Annotated[int, Ge(0)] = 192
    """Frames that are masked one after the other: fewer than this many; 0: none."""

    @property
    def idle(self) -> bool:
        """Whether nothing is varied."""
        return not any((self.mixup, self.low_jitter_hz, self.high_jitter_hz, self.band_mask, self.frame_mask))


@dataclass(frozen=True, kw_only=True)
class ClipTaggingConfig(Experiment):
    """Config of task clip_tagging; the defaults are EAsT-Final by PaSST on OpenMIC.

    At most 80,000 batches of 16; Adam; a fifth of the learning rate after 8 epochs without a lower validation loss, and
    the end after 15. The authors watch the whole loss on validation, the regulariser included, and keep the epoch of
    the highest mean average precision. Here the lowest loss of the predictions alone decides on all three.
    """

    vocabulary: Vocabulary = "openmic"
    """The classes: OpenMIC's 20 instruments, of which few are judged in a clip, or MagnaTagATune's 50 tags. Where no
    song of the library is judged on OpenMIC's, the General MIDI programs of its stems say what sounds."""
    system: System = "final"
    """What is trained. final, all, cos_diff, kd, east_kd: a student and a teacher, by the loss of that name, which sets
    teacher.distance, teacher.stages and teacher.kd. baseline: a student without its teacher. teacher_lr: no student
    but a linear classifier on the teacher's embeddings. custom: a student and a teacher as `teacher` says."""
    student: StudentName = "cp_resnet"
    """cp_resnet: CP-ResNet, rho 7 (OpenMIC). mobile_fcn (MagnaTagATune; a multiple of 32 bands). small: a quarter of
    the Mobile FCN, finer in time, for runs of minutes on a CPU."""
    width: Annotated[int, Ge(1)] | None = None
    """Channels of the student's first layer, of which later ones have twice and four times as many; none: as published
    (cp_resnet 128, mobile_fcn 64), and 16 of the small one."""
    mixing: Recipe = CLIP
    front_end: FrontEndConfig = field(default_factory=FrontEndConfig)
    augmentation: Augmentation = field(default_factory=Augmentation)
    teacher: TeacherConfig = field(
        default_factory=lambda: TeacherConfig(name="passt", student_repeat=(1, 1, 1), teacher_repeat=(6, 6, 6))
    )
    lr: Annotated[float, Gt(0)] = 1e-4
    """Learning rate of a student."""
    weight_decay: Annotated[float, Ge(0)] = 1e-4
    """Of a student; teacher_lr has none."""
    linear_lr: Annotated[float, Gt(0)] | None = None
    """Learning rate of teacher_lr; none: with training.optimizer=sgd the authors' 0.1 (0.2 for VGGish on OpenMIC and
    PaSST on MagnaTagATune), with adam 0.01."""
    training: Training = field(
        default_factory=lambda: Training(
            epochs=100,
            batches_per_epoch=800,
            schedule="plateau",
            plateau_factor=0.2,
            plateau_patience=8,
            stop_patience=15,
            gradient_clip=1.0,
        )
    )
    evaluation: Evaluation = field(
        default_factory=lambda: Evaluation(windows="whole_songs", valid_examples=0, test_examples=0)
    )

    def __post_init__(self) -> None:
        self._check_system()
        if self.mixing.channels != 1:
            raise ValueError(f"mixing.channels ({self.mixing.channels}) must be 1: the front end hears one channel")
        if self.system != "teacher_lr":
            self._check_input()
            self._check_augmentation()

    @property
    def taught_by(self) -> TeacherConfig:
        """What teaches the student: `teacher`, as the system has it; without a name if nobody does."""
        if self.system == "baseline":
            return replace(self.teacher, name="", weights="")
        return replace(self.teacher, **SYSTEMS[self.system])

    @property
    def effective_lr(self) -> float:
        """Learning rate of what is trained."""
        if self.system != "teacher_lr":
            return self.lr
        if self.linear_lr is not None:
            return self.linear_lr
        if self.training.optimizer == "adam":
            return ADAM_LINEAR_LR
        return LINEAR_LRS.get((self.vocabulary, self.teacher.name), LINEAR_LR)

    def _check_system(self) -> None:
        for name, value in SYSTEMS[self.system].items():
            given = getattr(self.teacher, name)
            if given not in (value, getattr(TeacherConfig(), name)):
                raise ValueError(
                    f"system={self.system} has teacher.{name}={value}, not {given}: leave it out, or give system=custom"
                )
        if self.system not in UNTAUGHT and not self.teacher.name:
            raise ValueError(
                f"system={self.system} needs a teacher: name its embeddings by teacher.name, or give system=baseline"
            )
        if self.system == "teacher_lr" and not self.teacher.name:
            raise ValueError("system=teacher_lr hears a teacher's embeddings: name them by teacher.name")

    def _check_input(self) -> None:
        frames, least = self.front_end.frames(self.mixing.samples), LEAST_FRAMES[self.student]
        if self.front_end.bands % BANDS_OF[self.student]:
            raise ValueError(
                f"front_end.bands ({self.front_end.bands}) must be a multiple of {BANDS_OF[self.student]} for "
                f"student={self.student}"
            )
        if frames < least or self.mixing.samples <= self.front_end.fft // 2 + 1:
            raise ValueError(
                f"student={self.student} needs {least} frames and {self.front_end.fft // 2 + 2} samples, not {frames} "
                f"and {self.mixing.samples}: raise mixing.seconds, or lower front_end.hop"
            )

    def _check_augmentation(self) -> None:
        varied, top = self.augmentation, self.mixing.sample_rate / 2
        if varied.low_jitter_hz + varied.high_jitter_hz >= top:
            raise ValueError(
                f"augmentation.low_jitter_hz ({varied.low_jitter_hz}) and high_jitter_hz ({varied.high_jitter_hz}) "
                f"leave nothing of the {top:g} Hz that the front end hears"
            )
        if varied.band_mask > self.front_end.bands:
            raise ValueError(
                f"augmentation.band_mask ({varied.band_mask}) must not exceed front_end.bands ({self.front_end.bands})"
            )
