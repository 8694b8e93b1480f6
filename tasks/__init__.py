"""The published systems, one package each."""
