"""The models of the study: one registry, every difference between families as data."""
