"""What the heads cost: time a token beside a constant setting, in turns in one process; FLOPs and memory."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pandas as pd
import torch

from lib.analysis.corrected import bonferroni
from lib.analysis.interleaved import interleaved, mean_time_ratio, time_ratio
from lib.analysis.stats import Estimate
from lib.autodeco import AutoDecoForCausalLM, Heads, HeadsConfig
from lib.autodeco.decode import AutoDeco
from lib.decoders import DECODERS, decode
from lib.decoding.autoregressive import Autoregressive
from lib.reporting import figures
from lib.reporting.claims import OWN, Claim, at_most
from lib.reporting.papers import printed
from lib.reporting.result_folder import headline
from lib.running.code import Name, name_of
from lib.running.identity import items_of
from lib.running.one_batch import model_of
from lib.studies.base import BaseStudy, Timed

TEMPERATURE, TOP_P = 0.8, 0.9  # of the constant
PRINTED = 1.85  # %, the mean of the paper's Table 3


@dataclass(frozen=True)
class Study(BaseStudy):
    """Heads of the published shape that say the constant's setting everywhere: the same tokens, so that what differs
    is the cost of the heads alone.

    `items` is the number of rounds; each decodes `tokens` tokens by either variant at every size: every batch at the
    shortest prompt, which the headline is made of, and every longer prompt at batch 1, where the prompt hides what a
    token costs.
    """

    items: int = 20
    samples: int = 1
    model: str = "smollm2-135m"
    tokens: int = 32
    batches: tuple[int, ...] = (1, 16)
    prompts: tuple[int, ...] = (8, 256, 1024)

    notebook = "16_autodeco_overhead"
    printed_in = "autodeco"

    @cached_property
    def pair(self):
        """The base, and the base with heads."""
        model = model_of(self.model, self.device)
        size = model.network.get_output_embeddings().weight.shape[1]
        torch.manual_seed(0)
        heads = Heads.saying(HeadsConfig(size), TEMPERATURE, TOP_P)
        return model, AutoDecoForCausalLM.from_base(model.network, heads)

    def _prompts(self, batch: int, length: int) -> torch.Tensor:
        """Word problems one after another, cut to the length: [batch, length]."""
        model, _ = self.pair
        items = items_of("worded_math", "test", 64)
        text = model.tokenizer.encode("\n".join(item.prompt for item in items), add_special_tokens=False)
        text = text * (2 + length // len(text))
        starts = [97 * row % (len(text) - length) for row in range(batch)]
        return torch.tensor([text[start : start + length] for start in starts], device=self.device)

    def _decode(self, network, options, batch: int, prompt: int) -> int:
        """Decode and return the number of tokens. No token ends a response, so that all have the same length."""
        model, _ = self.pair
        family = replace(model.family, eot_ids=(-1,))
        out = decode(network, self._prompts(batch, prompt), options, generator=0, family=family)
        return int(out.trace.target_forwards.sum())

    @cached_property
    def rounds(self) -> pd.DataFrame:
        """A row a round, size and variant: seconds and tokens."""
        return self.measurement("rounds", self._measure)

    def _measure(self) -> pd.DataFrame:
        model, with_heads = self.pair
        found = []
        constant = Autoregressive(self.tokens, temperature=TEMPERATURE, top_p=TOP_P)
        for batch, prompt in self.sizes:
            variants = {
                "constant": lambda b=batch, p=prompt: self._decode(model.network, constant, b, p),
                "AutoDeco": lambda b=batch, p=prompt: self._decode(with_heads, AutoDeco(self.tokens), b, p),
            }
            rows = interleaved(variants, self.items, self.device)
            found.append(rows.assign(batch=batch, prompt=prompt))
        return pd.concat(found, ignore_index=True)

    def timed(self) -> list[Timed]:
        """Either variant once a round at every size, and in a first round that is not counted."""
        often = 2 * (1 + self.items)
        return [Timed(self.model, often, batch, self.tokens, prompt=prompt) for batch, prompt in self.sizes]

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(batch, prompt length) that are measured."""
        first = self.batches[0], self.prompts[0]
        return [(first[0], prompt) for prompt in self.prompts] + [(batch, first[1]) for batch in self.batches[1:]]

    @cached_property
    def summary(self) -> pd.DataFrame:
        """A row a size: milliseconds a token of both and the extra time in %, medians over rounds; extra FLOPs in %.

        The extra time is the median of each round's ratio, which is not the ratio of the medians beside it.
        """
        rows = []
        for (batch, prompt), part in self.rounds.groupby(["batch", "prompt"], sort=False):
            e = time_ratio(part, "AutoDeco", "constant")
            medians = (part.seconds / part.work).groupby(part.variant).median()
            rows.append(
                {
                    "batch": batch,
                    "prompt": prompt,
                    "rounds": e.n,
                    **{f"{name}, ms": 1000 * seconds for name, seconds in medians.items()},
                    "extra": 100 * (e.value - 1),
                    "low": 100 * (e.low - 1),
                    "high": 100 * (e.high - 1),
                    "extra_flops": 100 * self.flops(prompt)[1] / self.flops(prompt)[0],
                }
            )
        return pd.DataFrame(rows)

    def flops(self, prompt: int) -> tuple[float, float]:
        """Floating-point operations a response of the base, and of the heads beside.

        The base's as the paper counts: 2 a weight and position, without attention; embeddings that are looked up
        count nothing. The heads' statistics take about 8 a token and word of the vocabulary besides their weights.
        """
        model, with_heads = self.pair
        config, network = model.network.config, model.network
        total = sum(p.numel() for p in network.parameters())
        looked_up = 0 if config.tie_word_embeddings else config.vocab_size * config.hidden_size
        heads = 2.0 * sum(p.numel() for p in with_heads.heads.parameters()) + 8.0 * config.vocab_size
        return 2.0 * (total - looked_up) * (prompt + self.tokens), heads * self.tokens

    def memory(self) -> pd.DataFrame:
        """MB at the end of a response, a row a prompt length, weights, KV cache and heads without buffers."""
        model, with_heads = self.pair
        config, weight = model.network.config, next(model.network.parameters())
        base, heads = (
            sum(p.numel() * p.element_size() for p in module.parameters()) / 1e6
            for module in (model.network, with_heads.heads)
        )
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        a_token = 2 * config.num_hidden_layers * config.num_key_value_heads * size * weight.element_size() / 1e6
        rows = []
        for prompt in self.prompts:
            default = base + a_token * (prompt + self.tokens)
            rows.append({"prompt": prompt, "default": default, "AutoDeco": default + heads, "extra": heads})
        return pd.DataFrame(rows).assign(percent=lambda t: 100 * t.extra / t.default).round(2).set_index("prompt")

    def figure_overhead(self):
        """Extra time a token in % with its 95 % interval, a line a size; dotted: the paper's Table 3."""
        rows = self.summary.assign(size=[f"batch {r.batch}, prompt {r.prompt}" for r in self.summary.itertuples()])
        rows = rows.set_index("size")
        figure = figures.forest(
            {"": rows},
            list(rows.index),
            value="extra",
            xlabel=f"extra time a token, %; dotted: {PRINTED:g}, printed",
            width=4.5,
        )
        figure.axes[0].axvline(PRINTED, **figures.LINE | {"ls": ":"})
        return figure

    def paper(self) -> pd.DataFrame:
        """The paper's Table 3 as printed, per 1,000 tokens; the last column is our arithmetic on it, in %."""
        wide = printed("autodeco", "Table 3").pivot(index="task", columns="method", values="value")
        lengths = ("1k", "2k", "4k", "8k", "16k", "24k")
        wide = wide.loc[[f"{what}, prompt {n}" for what in ("seconds", "FLOPs e13", "MB") for n in lengths]]
        wide = wide[["default", "autodeco"]].rename_axis(index=None, columns=None)
        return wide.assign(extra=(100 * (wide.autodeco / wide.default - 1)).round(2))

    @cached_property
    def overall(self) -> Estimate:
        """Extra time a token at the shortest prompt, in %: the mean over batch sizes of medians over rounds.

        The interval draws the rounds of every size anew, 95 %.
        """
        rows = self.rounds[self.rounds.prompt == self.prompts[0]]
        e = mean_time_ratio([part for _, part in rows.groupby("batch")], "AutoDeco", "constant")
        return Estimate(*(100 * (x - 1) for x in (e.value, e.low, e.high)), e.n)

    def claims(self) -> list[Claim]:
        """At most 2 % more time a token at each prompt length that the paper prints, at the smallest batch (it says
        none); and the bound that this library set itself, at the shortest prompt."""
        found, cells = [], self.paper().extra
        names = {prompt: f"seconds, prompt {prompt // 1024}k" for prompt in self.prompts if not prompt % 1024}
        printed_at = {prompt: cells[name] for prompt, name in names.items() if name in cells}
        *extra, short = bonferroni([*map(self._extra, printed_at), self.overall])
        for (prompt, cell), e in zip(printed_at.items(), extra, strict=True):
            says = f"the heads cost at most 2 % more time a token behind {prompt:,} tokens of prompt"
            printed_cost = f"1 to 2 % (this cell: {cell:.2f})"
            found.append(Claim("Table 3", says, printed_cost, e, "%", at_most(e, 2)))
        batches = " and ".join(map(str, self.batches))
        says = (
            f"the heads cost at most 1 %, our own bound, behind {min(self.prompts)} tokens, mean of batch {batches}"
        )
        return [*found, Claim(OWN, says, "", short, "%", at_most(short, 1))]

    def _extra(self, prompt: int) -> Estimate:
        """Extra time a token in % behind a prompt of that length, at the smallest batch."""
        rows = self.rounds[(self.rounds.prompt == prompt) & (self.rounds.batch == self.batches[0])]
        ratio = time_ratio(rows, "AutoDeco", "constant")
        return Estimate(*(100 * (x - 1) for x in (ratio.value, ratio.low, ratio.high)), ratio.n)

    @classmethod
    def measured_by(cls) -> tuple[list[Name], list[Path]]:
        """The code that is timed, and what times it."""
        return [name_of(thing) for thing in (DECODERS["autodeco"].decode, AutoDecoForCausalLM, interleaved)], []

    def reading(self) -> str:
        e = self.overall
        parts = [
            f"batch {r.batch}, prompt {r.prompt}: {r.extra:+.2f} % [{r.low:.2f}, {r.high:.2f}]"
            for r in self.summary.itertuples()
        ]
        return (
            f"- Extra time a token, AutoDeco against a constant setting: {'; '.join(parts)}.\n"
            f"- Mean over the batch sizes at the shortest prompt: {e.value:+.2f} % [{e.low:.2f}, {e.high:.2f}]. "
            f"The paper's Table 3 comes to {PRINTED:g} %."
        )

    def headlines(self) -> dict[str, dict]:
        e = self.overall
        entry = headline(e.value, e.low, e.high, e.n, "%", self.profile, self.notebook)
        return {"autodeco_overhead_percent": entry}

    def save(self) -> dict:
        """Everything into the results folder; the manifest in short."""
        tables = {"rounds": self.rounds, "summary": self.summary}
        return self.write(tables, {"overhead": self.figure_overhead()})
