"""Independent implementations and small models that tests compare the product with."""
