"""Which way of asking a teacher is best: instructions, label words, worked examples, calibrations."""
