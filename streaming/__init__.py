"""Many sessions at once, and the outside world."""
