"""Mixtures for people: as WAV files with their stems and labels, and as a page to listen and look."""
