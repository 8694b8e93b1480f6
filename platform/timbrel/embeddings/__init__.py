"""Embeddings of songs by teachers: made once by `timbrel embed`, read by whatever learns from them."""
