"""`make torture`: kills, hostile programs, bad input and damaged results, each a case that passes or not."""
