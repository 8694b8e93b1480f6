"""Mixtures: planned and rendered as pure functions of their number, streamed by a pool of actors."""
