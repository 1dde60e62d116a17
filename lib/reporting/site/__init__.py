"""`make site`: the results as pages that link to one another, for a browser without a network."""
