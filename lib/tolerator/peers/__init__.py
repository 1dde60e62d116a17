"""The diffusion decoders that the paper compares TOLERATOR with."""
