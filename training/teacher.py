"""The frozen listener that recipes of other rooms learn from."""

from ..asr.teacher import WhisperTeacher

__all__ = ["WhisperTeacher"]
