"""SmolLM2's draft: `python -m lib.training.mtad`."""
