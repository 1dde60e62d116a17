"""Runs: what decides them, doing them, keeping them, what they cost."""
