"""What the commands do; `cli.py` holds only their names and options, and imports these when they run."""
