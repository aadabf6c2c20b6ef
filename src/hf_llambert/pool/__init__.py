"""Labeling whole corpora with a student."""
