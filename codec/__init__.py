"""24 kHz speech to 37 codes per 80 ms and back, frame by frame, both ways."""
