"""Rules of our own, no part of the paper."""
