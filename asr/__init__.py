"""Listening: 16 kHz waveform to text, words and times."""
