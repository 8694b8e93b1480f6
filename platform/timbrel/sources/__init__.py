"""Data sets as their authors lay them out, read as songs made of stems."""

from timbrel.sources.base import Found, Header, Note, Performance, Skipped, Song, Source, Stem

__all__ = ["Found", "Header", "Note", "Performance", "Skipped", "Song", "Source", "Stem"]
