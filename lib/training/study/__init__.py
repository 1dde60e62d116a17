"""The study models: `python -m lib.training.study`."""
