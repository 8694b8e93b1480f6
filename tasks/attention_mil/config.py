"""The config of task attention_mil: the paper's values as defaults, and presets."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Lt

from tasks.attention_mil.forest import ForestConfig
from timbrel.clip_labels import Vocabulary
from timbrel.mixing.recipe import Recipe, whole_song
from timbrel.settings import Evaluation, Experiment, Training
from timbrel.teaching.config import TeacherConfig

ModelName = Literal["attention", "mean", "fc", "fc_t", "rnn", "random_forest"]

LEARNING_RATES: dict[ModelName, float] = {"attention": 5e-4, "mean": 1e-4, "fc": 1e-4, "fc_t": 5e-4, "rnn": 5e-4}
"""The authors', for each of their networks; that of ``mean``, which is ours, is that of the layers it shares."""
DROPOUTS: dict[ModelName, float] = {"attention": 0.6, "mean": 0.5, "fc": 0.5, "fc_t": 0.5, "rnn": 0.5}
"""The authors', likewise."""
CLIPS = 12_678
"""Of the authors' training set: OpenMIC-2018's, less those they validate on."""
BATCH = 128

WHOLE_CLIP = whole_song(sample_rate=16_000, seconds=10.0)
"""10 s of a song as it is; of OpenMIC's clips, all of them. No sound is rendered: its embeddings are read."""


@dataclass(frozen=True, kw_only=True)
class AttentionMilConfig(Experiment):
    """Config of task attention_mil; the defaults are the authors', for their network with attention.

    Each of their networks has its own learning rate, dropout and number of epochs. The first two follow from ``model``
    where they are None, so that a study over models gives each its own. The number of epochs the platform has to know
    of every run alike: 250 as for attention; the presets of the other models have their own.
    """

    vocabulary: Vocabulary = "openmic"
    """The classes: OpenMIC's 20 instruments, or the 50 most frequent tags of MagnaTagATune."""
    model: ModelName = "attention"
    """attention; mean (fully-connected layers on the mean of the instances), fc (on all of them as one vector), fc_t
    (on each, then the mean), rnn (a bidirectional GRU); random_forest (a forest for each class, on the mean)."""
    teacher: TeacherConfig = field(default_factory=lambda: TeacherConfig(name="vggish", offset=0.0, scale=1 / 255))
    """Whose embeddings are heard: with ``name`` and ``scale`` (authors: bytes / 255; 1 for other embeddings). There is
    nothing to regularise, so that the rest has no effect."""
    instances: Annotated[int, Ge(1)] = 10
    """Embeddings in a bag, which the first layer of ``fc`` depends on: 10 in 10 s of VGGish's (paper)."""
    mixing: Recipe = WHOLE_CLIP
    dropout: Annotated[float, Ge(0), Lt(1)] | None = None
    """Share of what a layer puts out that is dropped in training; None: as the authors for the model (attention 0.6,
    others 0.5)."""
    lr: Annotated[float, Ge(0)] | None = None
    """Learning rate; None: as the authors for the model (5e-4; fc 1e-4)."""
    weight_decay: Annotated[float, Ge(0)] = 1e-5
    """Of the whole network (authors: 1e-5)."""
    forest: ForestConfig = field(default_factory=ForestConfig)
    training: Training = field(
        default_factory=lambda: Training(
            epochs=250, batches_per_epoch=CLIPS // BATCH, batch_size=BATCH, decay=1.0, precision="float32"
        )
    )
    evaluation: Evaluation = field(
        default_factory=lambda: Evaluation(
            windows="whole_songs", valid_examples=0, test_examples=0, threshold_rule="fixed", fixed_threshold=0.5
        )
    )

    def __post_init__(self) -> None:
        if not self.teacher.name:
            raise ValueError("teacher.name must say whose embeddings are heard, such as vggish: no sound is")
        if self.model == "random_forest" and self.training.workers > 1:
            raise ValueError(
                f"training.workers ({self.training.workers}) must be 1 where model=random_forest: it is fitted at once"
            )

    @property
    def learning_rate(self) -> float:
        """The learning rate that training begins with; 0 for a forest, which has none."""
        return LEARNING_RATES.get(self.model, 0.0) if self.lr is None else self.lr

    @property
    def drops(self) -> float:
        """The share that is dropped in training."""
        return DROPOUTS.get(self.model, 0.0) if self.dropout is None else self.dropout

    def instance_s(self, instances: int) -> float:
        """Return the seconds from one instance to the next in bags of so many."""
        return self.teacher.hop_s or self.mixing.seconds / instances
