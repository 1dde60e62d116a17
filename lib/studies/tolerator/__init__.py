"""One module a notebook on TOLERATOR."""
