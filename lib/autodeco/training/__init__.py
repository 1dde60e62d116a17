"""Training the heads: `soft.py` is the loss, `states.py` the data, `loop.py` the steps."""
