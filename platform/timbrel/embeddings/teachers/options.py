"""What the user says of a teacher."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt


@dataclass(frozen=True, kw_only=True)
class TeacherOptions:
    """What `timbrel embed` may set for a teacher."""

    weights: str = ""
    """File of weights; for a classifier of this platform, a run's id or an exported folder."""
    path: str = ""
    """Folder of embeddings that were made elsewhere."""
    hop_s: Annotated[float, Ge(0)] | None = None
    """Seconds between two vectors; none: the teacher's own."""
    window_s: Annotated[float, Gt(0)] | None = None
    """Length of sound behind each vector in s; none: the teacher's own."""

    def __post_init__(self) -> None:
        if self.hop_s is not None and not 0 <= self.hop_s < 3600:
            raise ValueError(f"hop_s {self.hop_s:g} must be from 0 to 3600 s")
        if self.window_s is not None and not 0 < self.window_s <= 60:
            raise ValueError(f"window_s {self.window_s:g} must be above 0 and up to 60 s")
