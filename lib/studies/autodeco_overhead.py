"""What the heads cost: time a token beside a constant setting, in turns in one process; FLOPs and memory."""

from dataclasses import dataclass, replace
from functools import cached_property

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
import torch

from lib.autodeco import AutoDecoForCausalLM, Heads, HeadsConfig
from lib.autodeco.decode import AutoDeco
from lib.autoregressive import Autoregressive
from lib.benchmark import interleaved, time_ratio
from lib.decoders import decode
from lib.evaluation import model_of
from lib.papers import printed
from lib.report import headline
from lib.studies.base import BaseStudy

TEMPERATURE, TOP_P = 0.8, 0.9  # of the constant


@dataclass(frozen=True)
class Study(BaseStudy):
    """Heads of the published shape on a base, untrained: what they say does not change what they cost.

    `items` is the number of rounds; each decodes `tokens` tokens by either variant at each size.
    """

    items: int = 20
    samples: int = 1
    model: str = "smollm2-135m"
    tokens: int = 24
    batches: tuple[int, ...] = (1, 16)
    prompts: tuple[int, ...] = (32, 256, 1024)

    notebook = "16_autodeco_overhead"
    printed = "autodeco"

    @cached_property
    def pair(self):
        """The base, and the base with heads."""
        model = model_of(self.model, self.device)
        size = model.network.get_output_embeddings().weight.shape[1]
        torch.manual_seed(0)
        return model, AutoDecoForCausalLM.from_base(model.network, Heads(HeadsConfig(size)))

    def _decode(self, network, options, batch: int, prompt: int) -> int:
        """Decode and return the number of tokens. No token ends a response, so that all have the same length."""
        model, _ = self.pair
        generator = torch.Generator().manual_seed(batch * 10_000 + prompt)
        ids = torch.randint(100, 10_000, (batch, prompt), generator=generator).to(self.device)
        family = replace(model.family, eot_ids=(-1,))
        out = decode(network, ids, options, generator=0, family=family)
        return int(out.trace.target_forwards.sum())

    @cached_property
    def rounds(self) -> pd.DataFrame:
        """A row a round, size and variant: seconds and tokens."""
        model, with_heads = self.pair
        found = []
        for batch in self.batches:
            for prompt in self.prompts:
                constant = Autoregressive(self.tokens, temperature=TEMPERATURE, top_p=TOP_P)
                variants = {
                    "constant": lambda b=batch, p=prompt, o=constant: self._decode(model.network, o, b, p),
                    "AutoDeco": lambda b=batch, p=prompt: self._decode(with_heads, AutoDeco(self.tokens), b, p),
                }
                rows = interleaved(variants, self.items, self.device)
                found.append(rows.assign(batch=batch, prompt=prompt))
        return pd.concat(found, ignore_index=True)

    @cached_property
    def summary(self) -> pd.DataFrame:
        """A row a size: milliseconds a token of both, the extra time in % with its interval, the extra FLOPs in %."""
        rows = []
        for (batch, prompt), part in self.rounds.groupby(["batch", "prompt"], sort=False):
            e = time_ratio(part, "AutoDeco", "constant")
            totals = part.groupby("variant")[["seconds", "work"]].sum()
            rows.append(
                {
                    "batch": batch,
                    "prompt": prompt,
                    **{f"{name}, ms": 1000 * t.seconds / t.work for name, t in totals.iterrows()},
                    "extra": 100 * (e.value - 1),
                    "low": 100 * (e.low - 1),
                    "high": 100 * (e.high - 1),
                    "extra_flops": 100 * self.flops(prompt)[1] / self.flops(prompt)[0],
                }
            )
        return pd.DataFrame(rows)

    def flops(self, prompt: int) -> tuple[float, float]:
        """Floating-point operations a response of the base, and of the heads beside: 2 a weight and position.

        As the paper counts, without attention; embeddings that are looked up count nothing.
        """
        model, with_heads = self.pair
        config, network = model.network.config, model.network
        total = sum(p.numel() for p in network.parameters())
        looked_up = 0 if config.tie_word_embeddings else config.vocab_size * config.hidden_size
        heads = sum(p.numel() for p in with_heads.heads.parameters())
        return 2.0 * (total - looked_up) * (prompt + self.tokens), 2.0 * heads * self.tokens

    def memory(self) -> pd.DataFrame:
        """Bytes of the weights of the base and of the heads, in this dtype."""
        model, with_heads = self.pair
        sizes = {
            name: sum(p.numel() * p.element_size() for p in module.parameters()) / 1e6
            for name, module in (("base", model.network), ("heads", with_heads.heads))
        }
        return pd.DataFrame([sizes]).round(2).rename(columns=lambda name: f"{name}, MB")

    def figure_overhead(self):
        """Extra time a token in % against prompt length, a line a batch size."""
        figure, axis = plt.subplots(figsize=(5.2, 3.4))
        for batch, rows in self.summary.groupby("batch"):
            error = [rows.extra - rows.low, rows.high - rows.extra]
            axis.errorbar(rows.prompt, rows.extra, error, marker="o", ms=4, capsize=3, label=f"batch {batch}")
        axis.axhline(0, color="0.4", lw=1)
        axis.set(xscale="log", xlabel="prompt, tokens", ylabel="extra time a token, %")
        axis.set_xticks(self.prompts, labels=map(str, self.prompts))
        axis.minorticks_off()
        axis.legend(frameon=False)
        sns.despine()
        return figure

    def paper(self) -> pd.DataFrame:
        """The paper's Table 3 as printed: seconds per 1,000 tokens; the last column is our arithmetic on them."""
        wide = printed("autodeco", "Table 3").pivot(index="task", columns="method", values="value")
        wide = wide.loc[[f"seconds, prompt {n}" for n in ("1k", "2k", "4k", "8k", "16k", "24k")]]
        wide = wide[["default", "autodeco"]].rename_axis(index=None, columns=None)
        return wide.assign(extra=(100 * (wide.autodeco / wide.default - 1)).round(2))

    def overall(self):
        """Extra time a token over all sizes, in %: the mean of the sizes, with the widest of their intervals."""
        rows = self.summary
        return rows.extra.mean(), rows.low.min(), rows.high.max()

    def reading(self) -> str:
        value, low, high = self.overall()
        parts = [
            f"batch {r.batch}, prompt {r.prompt}: {r.extra:+.2f} % [{r.low:.2f}, {r.high:.2f}]"
            for r in self.summary.itertuples()
        ]
        return (
            f"- Extra time a token, AutoDeco against a constant setting: {'; '.join(parts)}.\n"
            f"- Mean over the sizes: {value:+.2f} %, within [{low:.2f}, {high:.2f}] at each. The paper's Table 3 "
            "comes to 1.85 %."
        )

    def headlines(self) -> dict[str, dict]:
        value, low, high = self.overall()
        entry = headline(value, low, high, self.items, "%", self.profile, self.notebook)
        return {"autodeco_overhead_percent": entry}

    def save(self) -> dict:
        """Everything into the results folder; the manifest in short."""
        tables = {"rounds": self.rounds, "summary": self.summary}
        written = self.write(tables, {"overhead": self.figure_overhead()}, self.headlines())
        plt.close("all")
        return written
