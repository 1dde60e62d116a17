"""Our decoders where people work already: a file or a folder for each program that asks them."""
