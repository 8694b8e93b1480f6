"""Training: the loop in plain PyTorch, and the Ray Train run around it."""
