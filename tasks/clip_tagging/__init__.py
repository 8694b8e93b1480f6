"""Embeddings as teachers: what is heard in weakly labelled clips, by a student whose teacher has heard much more.

Source: Ding and Lerch, "Audio embeddings as teachers for music classification" (EAsT, ISMIR 2023; arXiv 2306.17424),
and the authors' code. Students, front end, augmentation and the settings of the published systems are here; the
regulariser itself, which any task may have, is `timbrel.teaching`.
"""

from tasks.clip_tagging.config import ClipTaggingConfig
from tasks.clip_tagging.task import ClipTagging

TASK = ClipTagging()

__all__ = ["TASK", "ClipTagging", "ClipTaggingConfig"]
