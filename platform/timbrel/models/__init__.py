"""Front ends, backbones and transfer modes that several tasks share; plain PyTorch."""
