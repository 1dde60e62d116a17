"""The field's other ways to decode with a draft: lossless, lossy, and transformers' own."""
