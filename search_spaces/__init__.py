"""The studies: one module each, saying what Ray Tune varies and why."""
