"""A language model whose next token depends on the last one alone, so that everything about it can be written out."""

from types import SimpleNamespace

import torch
from transformers import LlamaConfig


class Bigram(torch.nn.Module):
    """Logits are the row of a table [V, V] for the last token; the hidden state is that token, one-hot."""

    def __init__(self, table: torch.Tensor):
        super().__init__()
        self.head = torch.nn.Linear(len(table), len(table), bias=False)
        self.head.weight = torch.nn.Parameter(table.T.contiguous(), requires_grad=False)
        self.config = LlamaConfig(vocab_size=len(table), num_hidden_layers=1)

    def get_output_embeddings(self):
        return self.head

    def forward(self, input_ids, position_ids=None, past_key_values=None, logits_to_keep=0, **given):
        if past_key_values is not None:
            past_key_values.update(*[input_ids[:, None, :, None].float()] * 2, 0)
        hidden = torch.nn.functional.one_hot(input_ids[:, -logits_to_keep:], len(self.head.weight)).float()
        return SimpleNamespace(logits=self.head(hidden))
