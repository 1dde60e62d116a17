"""One module a notebook on AutoDeco."""
