"""What all decoders share: options, trace, random numbers, distributions, cache, loop."""
