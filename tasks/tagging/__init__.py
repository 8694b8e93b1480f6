"""Pre-training on clip-level tags: which General MIDI programs sound in a few seconds of a whole song.

The first phase of the transfer-and-mixing paper, whose tags are the 50 most frequent of MTG-Jamendo. This thin
form reads its tags from the programs that a library's stems were played with, so it runs where no tagged
recordings are at hand. Its runs are what ``transfer.mode=frozen|finetune`` of task multi_instrument start from.
"""

from tasks.tagging.task import Tagging, TaggingConfig

TASK = Tagging()

__all__ = ["TASK", "Tagging", "TaggingConfig"]
