"""Default models, a folder with a card each."""
