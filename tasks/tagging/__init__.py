"""Pre-training on tags: what is said of whole songs, learned from a few seconds of them.

The first phase of the transfer-and-mixing paper, whose tags are the 50 most frequent of MTG-Jamendo
(``tags=mtg_jamendo``; ``magnatagatune`` has 50 of its own). They are learned from data sets that come with them. Where
no tagged recordings are at hand, ``tags=general_midi``, the default, takes the General MIDI programs that a library's
stems were played with. Its runs are what ``transfer.mode=frozen|finetune`` of task multi_instrument start from.
"""

from tasks.tagging.task import Tagging, TaggingConfig

TASK = Tagging()

__all__ = ["TASK", "Tagging", "TaggingConfig"]
