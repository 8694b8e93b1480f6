"""Multi-instrument recognition by transfer learning and musical / non-musical mixing.

The published experiment on multi-instrument recognition with transfer learning and musical / non-musical mixing of
MedleyDB, Mixing Secrets and Slakh, here "the transfer-and-mixing paper". Its authors' code is not public.

Which of 15 classes (8 families, 7 instruments) sound in 4 seconds of music? A short-chunk CNN, pre-trained on
tags or not, learns from mixtures that are made as it trains.
"""

from tasks.multi_instrument.task import MultiInstrument, MultiInstrumentConfig

TASK = MultiInstrument()

__all__ = ["TASK", "MultiInstrument", "MultiInstrumentConfig"]
