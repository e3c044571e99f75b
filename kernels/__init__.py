"""Streaming layers: tensors only, nothing of speech."""
