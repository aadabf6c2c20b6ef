"""Teachers: the large language models that annotate."""
