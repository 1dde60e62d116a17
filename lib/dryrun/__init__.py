"""Stand-ins for the papers' models and benchmarks, and a run of every section of a profile on them."""
