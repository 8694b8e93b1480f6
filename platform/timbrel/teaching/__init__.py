"""Teachers: training a network beside another one's embeddings of the same sound."""
