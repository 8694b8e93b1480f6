"""Which instruments sound in a clip, from weak labels that are mostly missing: attention over its seconds.

S. Gururani, M. Sharma and A. Lerch, "An attention mechanism for musical instrument recognition", ISMIR 2019
(arXiv 1907.04294); the authors' code is public (``SiddGururani/AttentionMIC``).

A clip of ten seconds is a bag of ten instances, each the embedding of a second by a network that was trained on
something else (VGGish). That an instrument sounds is said of the clip alone, not of when; the network learns how much
each second has to say about each instrument. Beside it the paper's baselines, and the data set's random forest.
"""

from tasks.attention_mil.task import TASK, AttentionMil, AttentionMilConfig

__all__ = ["TASK", "AttentionMil", "AttentionMilConfig"]
