"""Text and a voice to speech: autoregressive semantic codes, flow-matching acoustic codes, a codec."""
