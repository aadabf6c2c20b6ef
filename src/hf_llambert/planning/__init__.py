"""Tokens, hours and money, before and after a run."""
