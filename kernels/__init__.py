"""Streaming layers on tensors: state trees, convolution, attention, norms, sampling.

Knows nothing of speech. Every module that keeps time has `initial_state`, `forward` and `step`.
"""
