"""The recipe of the study models: an autoregressive target, a distilled draft, a masked diffusion model."""
