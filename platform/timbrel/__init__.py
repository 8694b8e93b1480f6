"""Timbrel: a distributed experiment platform for recognising who plays what in music."""

__version__ = "0.1.0"
