"""Students: the small encoders that learn from the labels."""
