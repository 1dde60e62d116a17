"""One module a notebook on MTAD."""
