"""Frame-level multitask learning: pianoroll, pitch and instrument from one U-net.

Y.-N. Hung, Y.-A. Chen and Y.-H. Yang, "Multitask learning for frame-level instrument recognition", ICASSP 2019. The
authors' code is public (``biboamy/instrument-streaming``, MIT), their data set is not.

Who plays which note when? A residual U-net turns 10 s of constant-Q spectrum into a pianoroll for each instrument;
which pitches and which instruments sound follows from it without further parameters, and all three are learned.
"""

from tasks.pianoroll.task import TASK, Pianoroll, PianorollConfig

__all__ = ["TASK", "Pianoroll", "PianorollConfig"]
