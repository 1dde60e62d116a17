"""Autoregressive and AutoDeco's responses by stock vLLM, many rows at a time, in any order.

The draws are vLLM's: each row has a seed of its own, so that rows are independent and a resumed run goes on where it
was. They are others than those of `lib.decoding`, of the same law, so that a run says which engine decoded it.
"""

import gc
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import count

import torch

from lib.autodeco.decode import AutoDeco
from lib.decoding.autoregressive import Autoregressive
from lib.decoding.networks import check_length, context_of
from lib.decoding.options import Options
from lib.decoding.randomness import RowGenerator
from lib.engines.choice import chosen
from lib.engines.files import Source, source_of
from lib.engines.vllm_plugin import HEADS_KEY, RECORDER, Worker, autodeco_name
from lib.errors import MachineError, UserError, says_out_of_memory, why
from lib.models.hub import bits
from lib.models.registry import Model, entry_of
from lib.paths import CHECKPOINTS
from lib.running.respond import encoded
from lib.tasks.base import Item

NAME = "vllm"
METHODS = {"autoregressive": Autoregressive, "autodeco": AutoDeco}
PLUGIN = "lib.engines.vllm_plugin"
SETTINGS = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING", "VLLM_CPU_KVCACHE_SPACE": "2"}  # GiB
INSTALL = "`make env-vllm`, then run with .venv-vllm/bin/python"


@dataclass(frozen=True)
class Answer:
    """The response to an item: its place among the items, text and counters, as `Trace.row` has them."""

    place: int
    text: str
    counters: dict


def engine_of(model: str, method: str, options: dict) -> str:
    """`vllm` where ENGINE wants it and it can run this; else "". Raises UserError where nothing else may."""
    choice = chosen()
    if not choice.vllm:
        return ""
    reason = unable(model, method, options)
    if reason and choice.runner is None:
        raise UserError(f"{reason}: ENGINE=vllm,local decodes here what vLLM cannot, or leave ENGINE unset")
    return "" if reason else NAME


def unable(model: str, method: str, options: dict) -> str | None:
    """Why vLLM cannot run a method on a model; None where it can."""
    if method not in METHODS:
        return f"vLLM runs {' and '.join(METHODS)}, not {method}"
    for name, wanted in (("use_cache", True), ("shuffled", False)):
        if options.get(name, wanted) != wanted:
            return f"vLLM cannot run {method} with {name}={options[name]}"
    if bits():
        return f"vLLM loads no weights in {bits()} bits of bitsandbytes (MODEL_BITS)"
    entry = entry_of(model)
    if entry.tier == "draft":
        return f"vLLM has no class for {model}"
    if (CHECKPOINTS / entry.source / "adapter_config.json").exists():
        return f"vLLM does not merge the adapter of {model}"
    return None


def answers(
    name: str,
    items: list[Item],
    options: Options,
    *,
    samples: list[int],
    instruction: str = "",
    command: str = "",
    seed: int = 0,
    device: str = "cpu",
) -> Iterator[list[Answer]]:
    """The responses of a registered model to items, in groups, as they are done; the keywords are those of `respond`.

    A row's key of (seed, item id, sample) is its seed. A generator that is left early takes its requests out of the
    engine. Raises UserError and MachineError.
    """
    source = source_of(name)
    asked = [encoded(source.model, [item], instruction, command)[0][0].tolist() for item in items]
    longest = max(map(len, asked))
    check_length(longest, options, source.model.network)
    engine = _loaded(source, longest + options.max_new_tokens, device)
    heads = isinstance(options, AutoDeco)
    if heads:
        engine.collective_rpc("autodeco_factors", args=(options.temperature or 1.0, options.top_p))
    keys = RowGenerator.of(seed, [item.id for item in items], samples).keys.tolist()
    rows = {f"{next(_NUMBERS)}": place for place in range(len(items))}  # requests that have not ended
    try:
        for row, place in rows.items():
            params = _params(options, source.model, keys[place], row)
            engine.llm_engine.add_request(row, {"prompt_token_ids": asked[place]}, params)
        while engine.llm_engine.has_unfinished_requests():
            done = [output for output in engine.llm_engine.step() if output.finished]
            if done:
                places = {output.request_id: rows.pop(output.request_id) for output in done}
                yield _answers(engine, source.model, done, places, asked, options)
    finally:
        if rows:
            engine.llm_engine.abort_request(list(rows))
            if heads:
                _means(engine, dict.fromkeys(rows, 0))  # which forgets them


def _params(options: Options, model: Model, key: int, row: str):
    """A request's sampling. AutoDeco's settings are in the logits already; its temperature 0 is greedy too."""
    from vllm import SamplingParams

    heads = isinstance(options, AutoDeco)
    sampled = options.temperature > 0
    return SamplingParams(
        max_tokens=options.max_new_tokens,
        temperature=float(sampled) if heads else options.temperature,
        top_p=1.0 if heads else options.top_p,
        top_k=0 if heads else options.top_k,
        seed=key & (2**63 - 1) if sampled else None,
        stop_token_ids=list(model.family.eot_ids),
        ignore_eos=True,  # the family's ends are the ends
        detokenize=False,
        extra_args={"row": row} if heads else None,
    )


def _answers(
    engine, model: Model, done: list, places: dict[str, int], asked: list[list[int]], options: Options
) -> list[Answer]:
    ends, found = set(model.family.eot_ids), []
    heads = isinstance(options, AutoDeco)
    drawn = {output.request_id: list(output.outputs[0].token_ids) for output in done}
    means = _means(engine, {row: len(ids) for row, ids in drawn.items()}) if heads else {}
    for row, ids in drawn.items():
        kept = next((i for i, token in enumerate(ids) if token in ends), len(ids))
        made = min(kept + 1, len(ids))
        counters = {
            "target_forwards": made,
            "positions": len(asked[places[row]]) + made - 1,  # as if no other row had read the same prompt
            "head_positions": made,
            "tokens_kept": kept,
            "draft_forwards": None,
            "draft_positions": None,
        }
        if heads:
            temperature, top_p = means.get(row, (None, None))
            if not options.temperature:  # the predicted one, which the engine has, is multiplied by 0
                temperature = 0.0
            counters |= {"temperature": temperature, "top_p": top_p, "drawn": made}
        found.append(Answer(places[row], model.text(torch.tensor(ids, dtype=torch.long), kept), counters))
    return found


def _means(engine, made: dict[str, int]) -> dict[str, list[float]]:
    """Mean predicted temperature and top-p by row; without those that no worker saw whole."""
    found: dict[str, list[float]] = {}
    for of_worker in engine.collective_rpc("autodeco_means", args=(made,)):
        found |= {row: [round(value, 4) for value in means] for row, means in of_worker.items()}
    return found


_NUMBERS = count()  # of requests, none of them twice
_ENGINE: list = []  # the loaded one, what it was loaded by and its room


def _loaded(source: Source, room: int, device: str):
    """vLLM with a model and room for texts of so many tokens; one at a time, for it takes all memory that is free."""
    asked = _asked()
    key = (source.name, source.path, source.revision, source.heads, device, json.dumps(asked, sort_keys=True))
    if _ENGINE and _ENGINE[0][1] == key and _ENGINE[0][2] >= room:
        return _ENGINE[0][0]
    release()
    if find_spec("vllm") is None:
        raise UserError(f"ENGINE=vllm needs vLLM, which has an environment of its own: {INSTALL}")
    overrides = {}
    if source.heads:
        overrides = {
            "hf_overrides": {"architectures": [autodeco_name(source.architecture)], HEADS_KEY: source.heads},
            "logits_processors": [f"{PLUGIN}:{RECORDER}"],
        }
        os.environ.setdefault("VLLM_USE_V2_MODEL_RUNNER", "0")  # whose logits processors have another form
    for setting, value in SETTINGS.items():
        os.environ.setdefault(setting, value)
    if room > (context_of(source.model.network) or room):
        os.environ["VLLM_ALLOW_LONG_MAX_MODEL_LEN"] = "1"  # by a last token, which is not read
    options = {
        "model": source.path,
        "revision": source.revision,
        "dtype": "float32" if device == "cpu" else "bfloat16",
        "skip_tokenizer_init": True,
        "generation_config": "vllm",  # a checkpoint's own defaults do not count
        "max_model_len": room,
        "async_scheduling": False,
        "worker_extension_cls": f"{PLUGIN}.{Worker.__name__}",
        **({"enforce_eager": True, "distributed_executor_backend": "uni"} if device == "cpu" else {}),
        **overrides,
        **asked,
    }
    from vllm import LLM

    try:
        engine = LLM(**options)
    except Exception as error:  # of many kinds
        if says_out_of_memory(str(error)) or "memory" in str(error).lower():
            raise MachineError(
                f"vLLM has too little memory for {source.name} ({why(error)}): take more GPUs, such as "
                "VLLM_OPTIONS='{\"tensor_parallel_size\": 2}', or shorter responses"
            ) from error
        raise UserError(f"vLLM does not load {source.name} ({why(error)}): leave ENGINE unset for it") from error
    _ENGINE.append((engine, key, room))
    return engine


def _asked() -> dict:
    """VLLM_OPTIONS: what else vLLM's LLM is given, as JSON."""
    said = os.environ.get("VLLM_OPTIONS") or "{}"
    try:
        found = json.loads(said)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UserError(f'VLLM_OPTIONS must be JSON such as {{"tensor_parallel_size": 2}}, not {said:.60}')
    return found


def release() -> None:
    """End the loaded engine and give its memory back."""
    if _ENGINE:
        engine, *_ = _ENGINE.pop()
        core = getattr(engine.llm_engine, "engine_core", None)
        if hasattr(core, "shutdown"):
            core.shutdown()
        del engine, core
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
