"""Imported once by the process that all victims are forked from: what each of them would otherwise make anew."""

from lib.bench.reliability.victims import tiny_model, training_tokenizer

tiny_model()
training_tokenizer()
