"""What training runs share: data, augmentation, alignment, the loop."""
