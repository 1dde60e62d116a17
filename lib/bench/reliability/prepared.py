"""Imported once by the process that all victims are forked from: what each of them would otherwise make anew."""

import lib.bench.reliability.run  # noqa: F401  each victim imports the main module again, which is quick from here
from lib.bench.reliability.victims import tiny_model, training_tokenizer

tiny_model()
training_tokenizer()
