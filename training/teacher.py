"""The frozen listeners that recipes of other rooms learn from and are judged by."""

from ..asr.aligner import PhoneAligner
from ..asr.teacher import WhisperTeacher

__all__ = ["PhoneAligner", "WhisperTeacher"]
