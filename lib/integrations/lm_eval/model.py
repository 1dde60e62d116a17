"""The model class that lm-eval asks; see the head of this folder for the commands and for who decides what.

An answer depends on (seed, task and document, sample), not on batch, order or subset: `repeats` of a request are
samples 0, 1, ... of it. Draws are those of `lib.running.respond` for an item whose id is `Place.item`.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cached_property

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM, hash_args
from lm_eval.api.registry import register_model
from lm_eval.models.utils import postprocess_generated_text
from tqdm import tqdm

from lib.decoders import decode
from lib.decoding.networks import context_of
from lib.decoding.options import Options
from lib.decoding.randomness import RowGenerator
from lib.errors import UserError
from lib.integrations.lm_eval.arguments import Arguments
from lib.integrations.lm_eval.networks import chat_text, networks_of, prompt_ids
from lib.integrations.lm_eval.requests import NO_FILTER, asked, certain
from lib.integrations.lm_eval.trace import LOGGED, Place, append, log
from lib.running.cost import measured
from lib.running.memory import batch_size, in_halves

NAME = "decoding-study"
SETTINGS = f"{NAME}/arguments"  # the row of a cache that says whose answers it holds


@dataclass(frozen=True)
class Row:
    """One answer that is asked for: the `index`-th request, its generation arguments, prompt ids and stop strings."""

    index: int
    request: Instance
    given: dict
    place: Place
    ids: list[int]
    until: tuple[str, ...]


@register_model(NAME)
class DecodingLM(TemplateLM):
    """A model of this library with one of its decoders; `--model_args` are the fields of `Arguments`."""

    def __init__(self, **given):
        super().__init__()
        self.arguments = Arguments.of(given)
        networks = networks_of(self.arguments)
        self.model, self.draft = networks.model, networks.draft
        self.tokenizer = self.model.tokenizer
        self._device = next(self.model.network.parameters()).device
        self._options: dict[Options, None] = {}  # those that requests were decoded by, in order

    @classmethod
    def create_from_arg_obj(cls, arg_dict: dict, additional_config: dict | None = None) -> "DecodingLM":
        """As lm-eval makes it; what `--model_args` say is before `--batch_size` and `--device`."""
        other = {name: value for name, value in (additional_config or {}).items() if value is not None}
        if str(other.get("device")).startswith("cuda") and not torch.cuda.is_available():
            del other["device"]  # lm-eval's own default, which its models leave for a CPU where there is no GPU
        return cls(**other | arg_dict)

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: dict | None = None) -> "DecodingLM":
        from lm_eval.utils import simple_parse_args_string

        return cls.create_from_arg_obj(simple_parse_args_string(arg_string), additional_config)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """An answer a request, in order. Raises UserError for a generation argument that cannot be honoured."""
        groups, texts, samples = defaultdict(list), [None] * len(requests), Counter()
        for index, request in enumerate(requests):
            row, options = self._row(index, request, samples[id(request)])
            samples[id(request)] += 1
            known = self._known(row)
            if known is None:
                groups[options].append(row)
            else:
                texts[index] = self._logged(row, *known)
        left = sum(map(len, groups.values()))
        with tqdm(total=left, unit="response", desc=self.arguments.method, disable=disable_tqdm or None) as bar:
            for options, rows in groups.items():
                self._options[options] = None
                rows.sort(key=lambda row: -len(row.ids))  # the longest first: what does not fit fails at once
                size = self._size(options, len(rows[0].ids))
                for start in range(0, len(rows), size):
                    batch = rows[start : start + size]
                    for row, text in zip(batch, self._answered(batch, options), strict=True):
                        texts[row.index] = text
                    bar.update(len(batch))
        return texts

    def _row(self, index: int, request: Instance, sample: int) -> tuple[Row, Options]:
        prompt, given = request.args[:2]
        given = {name: value for name, value in given.items() if name != LOGGED}
        if len(request.args) > 2:
            raise UserError(f"{request.task_name} asks with pictures or sound, and these models read text alone")
        want = asked(given, self.arguments.method, self.arguments.options, self.arguments.max_gen_toks)
        alone = (request.repeats or 1) == 1 and certain(self.arguments.method, want.options)
        if self._cache is not None and not alone and not given.get("do_sample"):
            raise UserError(
                f"{request.task_name} asks for one prompt several times, or answers are drawn, and lm-eval's cache "
                "would give one answer to all that ask so: pass --gen_kwargs do_sample=True (temperature in "
                "--model_args holds), or leave --use_cache out"
            )
        ids = self._fitting(prompt_ids(self.model, prompt), want.options, request.task_name)
        return Row(index, request, given, Place.of(request, sample), ids, want.until), want.options

    def _fitting(self, ids: list[int], options: Options, task: str) -> list[int]:
        """A prompt that leaves room for the response, its beginning cut off where `truncation` allows that."""
        limit = self.max_length
        # A canvas is read whole; the last token of a text is not read, so that it needs no position.
        length = options.canvas if hasattr(options, "canvas") else options.max_new_tokens - 1
        if limit is None or len(ids) + length <= limit:
            return ids
        if self.arguments.truncation and length < limit:
            return ids[length - limit :]
        raise UserError(
            f"a prompt of {task} has {len(ids)} tokens, and with a response of {length} it does not fit into {limit} "
            "positions: ask with fewer shots, pass --gen_kwargs max_gen_toks=..., or truncation=True"
        )

    def _size(self, options: Options, prompt: int) -> int:
        size, most = self.arguments.batch_size, self.arguments.max_batch_size
        if isinstance(size, str):
            length = getattr(options, "canvas", None) or options.max_new_tokens
            size = batch_size(self.model, prompt, length, self.arguments.place)
            size = min(size, most) if most else size
        return size

    def _answered(self, batch: list[Row], options: Options) -> list[str]:
        """Texts of rows that are decoded at once; counters and cache are written before it returns."""

        def decoded(part: list[Row]) -> list[tuple[str, dict]]:
            with measured(self.arguments.place) as cost:
                found = self._decode(part, options)
            each = {"seconds": round(cost.seconds / len(part), 6)}
            each["joules"] = None if cost.joules is None else round(cost.joules / len(part), 6)
            return [(text, line | each) for text, line in found]

        found = in_halves(decoded, batch, (self.arguments.pretrained, options, self.arguments.place))
        lines = [row.place.line(line) for row, (_, line) in zip(batch, found, strict=True)]
        if self.arguments.trace:
            append(self.arguments.trace, lines)
        texts = []
        for row, (text, _), line in zip(batch, found, lines, strict=True):
            if self._cache is not None and row.given.get("do_sample"):
                self._cache[self._key(row)] = (text, line)  # lm-eval itself keeps no sampled answer
            else:
                self.cache_hook.add_partial("generate_until", (row.request.args[0], row.given), text)
            texts.append(self._logged(row, text, line))
        return texts

    @torch.inference_mode()
    def _decode(self, rows: list[Row], options: Options) -> list[tuple[str, dict]]:
        generator = RowGenerator.of(
            self.arguments.seed, [row.place.item for row in rows], [row.place.sample for row in rows]
        )
        draft = {} if self.draft is None else {"draft": self.draft}
        ids = [row.ids for row in rows]
        out = decode(self.model.network, ids, options, generator=generator, family=self.model.family, **draft)
        texts = [
            self.tokenizer.decode(out.responses[i, : int(out.lengths[i])].tolist(), skip_special_tokens=True)
            for i in range(len(rows))
        ]
        think = self.arguments.think_end_token or None
        return [
            (postprocess_generated_text(text, list(row.until), think), out.trace.row(i))
            for i, (row, text) in enumerate(zip(rows, texts, strict=True))
        ]

    # Cache: lm-eval's own for what it keeps, and rows of ours beside it for sampled answers, which it never reads.

    @property
    def _cache(self):
        return getattr(self.cache_hook, "dbdict", None)

    def set_cache_hook(self, cache_hook) -> None:
        """Take lm-eval's cache. Raises UserError for one that holds answers of other arguments."""
        super().set_cache_hook(cache_hook)
        if self._cache is None:
            return
        own = self.arguments.identity()
        if self._cache.get(SETTINGS, own if not len(self._cache) else None) != own:
            raise UserError("--use_cache holds answers of another model or of other --model_args: name another file")
        self._cache[SETTINGS] = own

    def _key(self, row: Row) -> str:
        return hash_args(NAME, [row.request.args[0], row.given, row.place.item, row.place.sample])

    def _known(self, row: Row) -> tuple[str, dict] | None:
        sampled = self._cache is not None and row.given.get("do_sample")
        return self._cache.get(self._key(row)) if sampled else None

    @staticmethod
    def _logged(row: Row, text: str, line: dict) -> str:
        log(row.request, line)
        return text

    # Likelihoods: those of the network, exact for the plain autoregressive method alone.

    @cached_property
    def _scorer(self):
        """lm-eval's own class for Hugging Face models, on the network that is loaded."""
        options, family = self.arguments.options, self.model.family
        plain = options.get("temperature", 1) == 1 and all(options.get(k, v[1]) == v[1] for k, v in NO_FILTER.items())
        if self.arguments.method != "autoregressive" or not plain:
            raise UserError(
                "the likelihood of a text is exact for method=autoregressive without temperature, top_p and top_k "
                f"alone, not for {self.arguments.method} with {options}: take that, or tasks that generate"
            )
        from lm_eval.models.huggingface import HFLM

        class Scorer(HFLM):
            def tok_encode(_, string, add_special_tokens=None, **given):
                return self.tok_encode(string, add_special_tokens)

        size = self.arguments.batch_size
        return Scorer(
            pretrained=self.model.network,
            tokenizer=self.tokenizer,
            batch_size="auto" if isinstance(size, str) else size,
            max_batch_size=self.arguments.max_batch_size or 64,
            max_length=self.max_length,
            prefix_token_id=family.bos_id,
        )

    def _asked_of_scorer(self, kind: str, requests, **given):
        self._scorer.set_cache_hook(self.cache_hook)
        return getattr(self._scorer, kind)(requests, **given)

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """log P of each continuation and whether it is the greedy one, of the network at temperature 1. Raises
        UserError for a method that draws by another law."""
        return self._asked_of_scorer("loglikelihood", requests, disable_tqdm=disable_tqdm)

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """log P of whole texts, as `loglikelihood`."""
        return self._asked_of_scorer("loglikelihood_rolling", requests, disable_tqdm=disable_tqdm)

    def _loglikelihood_tokens(self, requests, **given):
        return self._asked_of_scorer("_loglikelihood_tokens", requests, **given)

    # What the harness asks of a model's texts.

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **given) -> list[int]:
        if add_special_tokens is False:
            return self.tokenizer.encode(string, add_special_tokens=False)
        return prompt_ids(self.model, string)

    def apply_chat_template(self, chat_history: list[dict], add_generation_prompt: bool = True) -> str:
        """The prompt of a chat; see `chat_text`. A beginning of the answer (gen_prefix) is kept to the letter."""
        return chat_text(self.model, chat_history, add_generation_prompt)

    @property
    def tokenizer_name(self) -> str:
        """By which lm-eval keeps prompts of `--cache_requests` apart."""
        return (getattr(self.tokenizer, "name_or_path", "") or self.model.name).replace("/", "__")

    @property
    def eot_token_id(self) -> int:
        return self.model.family.eot_ids[0]

    @property
    def max_length(self) -> int | None:
        """Positions of prompt and response."""
        networks = [network for network in (self.model.network, self.draft) if network is not None]
        return self.arguments.max_length or context_of(*networks)

    def get_model_info(self) -> dict:
        """What lm-eval writes beside the results: the options that requests were decoded by among it."""
        network = self.model.network
        return {
            "model_num_parameters": sum(parameter.numel() for parameter in network.parameters()),
            "model_dtype": str(next(network.parameters()).dtype),
            "model_sha": getattr(network.config, "_commit_hash", None) or "",
            "method": self.arguments.method,
            "decoding_seed": self.arguments.seed,
            "decoding_options": [options.to_dict() for options in self._options],
        }
