"""README.md of a custom_generate folder: what the decoder does, its arguments, an example, what was measured."""

import inspect
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, fields
from pathlib import Path

from lib.decoding.registry import Decoder
from lib.errors import UserError
from lib.paths import RESULTS
from lib.reporting.collect import DESCRIPTIONS

HEADLINES = RESULTS / "headline.json"


@dataclass(frozen=True)
class Method:
    """A decoder by its name in the registry, as it goes to the hub.

    papers: arXiv ids. headlines: names in results/headline.json that say what came of it here. prepare: what makes
    of a model the one that decodes; see lib.integrations.arguments.run.
    """

    name: str
    title: str
    what: str
    papers: tuple[str, ...]
    headlines: tuple[str, ...] = ()
    prepare: Callable | None = None


# Arguments of lib.integrations.arguments.run besides options and `prepare`'s.
DRAFT = {
    "assistant_model": ("needed", "the small model that drafts, with the model's own tokenizer and vocabulary size")
}
MASK = {
    "mask_id": ("the config's `mask_token_id`", "the id of [MASK]"),
    "shift": (
        "by the model type: LLaDA `False`, Dream `True`",
        "whether the logits at a position predict the token behind it, or its own",
    ),
    "wide_mask": (
        "whether the forward takes `position_ids`",
        "the network is given a 4D mask by which every position sees every other, and position ids",
    ),
}
ALWAYS = {
    "seed": ("torch's own generator", "a whole number: draws then depend on it, the row and the step alone"),
    "generator": ("torch's own generator", "a `torch.Generator`, instead of a seed"),
}
LENGTH = {
    False: "`max_new_tokens` (or `max_length`)",
    True: "`max_new_tokens` (or `max_length`), which is the canvas",
}
STOPS = {
    False: "`stopping_criteria`, `stop_strings` (with `tokenizer`) and `max_time` end a text where they hold.",
    True: "`stopping_criteria`, `stop_strings` and `max_time` are refused, for a canvas has its length.",
}
TEXT = """---
library_name: transformers
license: mit
pipeline_tag: text-generation
tags:
- custom_generate
---

# {title}

{what}

{papers}

Made by `make hub` of the repository decoding-study, where the decoder is tested and measured: this folder is not
written by hand. It needs what `custom_generate/requirements.txt` names and nothing else.

## Example

{before}```python
{example}```

## Arguments

| option | default | meaning |
|---|---|---|
{options}

| besides | default | meaning |
|---|---|---|
{more}

Of `generate`'s own arguments {length}, `eos_token_id`, `pad_token_id`, `attention_mask`, `num_return_sequences`,
`return_dict_in_generate` and `streamer` are honoured, in a `generation_config` too; `do_sample=False` is
temperature 0. {stops}
A model's own default temperature, top-p and top-k do not count, the table's do. Whatever else would change tokens,
a penalty that the model ships among it, and every argument that nobody reads, is refused by name
before anything is computed: pass `repetition_penalty=1.0` where a model ships another.

## Output

Prompts and responses, [B, P + G], as `generate` gives them: an end of text behind a response and padding behind
that. Prompts are padded on the left.

## What was measured

{results}
"""
CAUSAL = """from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "{folder}"  # or the hub id that it was pushed to
tokenizer = AutoTokenizer.from_pretrained("{model}")
model = AutoModelForCausalLM.from_pretrained("{model}")
{draft}chat = [{{"role": "user", "content": "Name three uses of salt."}}]
inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
out = model.generate(
    **inputs, custom_generate=folder, trust_remote_code=True, {given}max_new_tokens=48, seed=0
)
print(tokenizer.decode(out[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True))
"""
DIFFUSION = """from transformers import AutoModel, AutoTokenizer, GenerationMixin

folder = "{folder}"  # or the hub id that it was pushed to
name = "GSAI-ML/LLaDA-8B-Instruct"
tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=True)
model = AutoModel.from_pretrained(name, trust_remote_code=True)
chat = [{{"role": "user", "content": "Name three uses of salt."}}]
inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
generate = GenerationMixin.load_custom_generate(model, folder, trust_remote_code=True)
out = generate(model, inputs["input_ids"], canvas=64, {given}seed=0)
print(tokenizer.decode(out[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True))
"""
SMALL = '"HuggingFaceTB/SmolLM2-1.7B-Instruct"', '"HuggingFaceTB/SmolLM2-135M-Instruct"'


def card(method: Method, decoder: Decoder, folder: Path) -> str:
    """The card of a decoder. Raises UserError for an option that no docstring explains."""
    kind, masked = decoder.options, any(field.name == "canvas" for field in fields(decoder.options))
    more = DRAFT if decoder.drafts else {}
    more = more | (MASK if masked else {}) | (said_of(method.prepare) if method.prepare else {}) | ALWAYS
    before, example = _example(decoder, masked, method.prepare is not None, folder)
    return TEXT.format(
        title=method.title,
        what=method.what,
        papers="Papers: " + ", ".join(f"[arXiv {paper}](https://arxiv.org/abs/{paper})" for paper in method.papers),
        before=before,
        example=example,
        options="\n".join(_option_rows(kind)),
        more="\n".join(f"| `{name}` | {default} | {meaning} |" for name, (default, meaning) in more.items()),
        length=LENGTH[masked],
        stops=STOPS[masked],
        results="\n".join(_results(method.headlines)),
    )


def _option_rows(kind: type) -> Iterator[str]:
    explained = meanings(kind)
    for field in fields(kind):
        if field.name not in explained:
            raise UserError(f"the docstring of {kind.__name__} does not say what {field.name} is: add it there")
        default = "needed" if field.default is MISSING else f"`{field.default!r}`"
        yield f"| `{field.name}` | {default} | {_cell(explained[field.name])} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def meanings(kind: type) -> dict[str, str]:
    """What the docstrings of options say of each: those of the class, and of the classes that it comes from."""
    names, found = [field.name for field in fields(kind)], {}
    bases = [sentences(inspect.cleandoc(base.__dict__.get("__doc__") or ""), names) for base in kind.__mro__]
    for told in [mentions for _, mentions in bases[::-1]] + [entries for entries, _ in bases[::-1]]:
        found |= told
    return found


def sentences(text: str, names: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """The entries `a, b: meaning. More of it.` by name, and by name the sentences that mention one."""
    name = "|".join(sorted(map(re.escape, names), key=len, reverse=True))
    head = rf"(?:(?:{name})(?:, )?)+: "
    entries: dict[str, list[str]] = {}
    mentions: dict[str, list[str]] = {}
    for paragraph in re.split(r"\n\s*\n", text):
        current: list[str] = []
        for sentence in re.split(rf"(?<=\.)(?<!al\.)\s+|\n(?=\s*{head})", paragraph):
            sentence = " ".join(sentence.split())
            if not sentence:
                continue
            start = re.match(head, sentence)
            if start:
                current = re.findall(rf"\b(?:{name})\b", start[0])
                sentence = sentence[start.end() :]
            for option in current:
                entries.setdefault(option, []).append(sentence)
            for option in set(re.findall(rf"\b(?:{name})\b", sentence)) - set(current):
                mentions.setdefault(option, []).append(sentence)
    return tuple({option: " ".join(told) for option, told in said.items()} for said in (entries, mentions))


def said_of(prepare: Callable) -> dict[str, tuple[str, str]]:
    """Arguments of `prepare` behind the model, with default and meaning."""
    parameters = list(inspect.signature(prepare).parameters.values())[1:]
    told, _ = sentences(inspect.cleandoc(prepare.__doc__), [parameter.name for parameter in parameters])
    return {parameter.name: (f"`{parameter.default!r}`", told[parameter.name]) for parameter in parameters}


def _example(decoder: Decoder, masked: bool, heads: bool, folder: Path) -> tuple[str, str]:
    """What to know before an example, and the example."""
    place = f"build/hub/{decoder.name}" if folder.is_absolute() else folder.as_posix()
    if masked:
        steps = "forwards=64, " if "forwards" in {field.name for field in fields(decoder.options)} else "steps=64, "
        before = (
            "LLaDA and Dream have classes without `generate`, which is why the function is taken by its name; a "
            "model that has it takes `model.generate(..., custom_generate=folder, trust_remote_code=True)`. Tried on "
            "tiny models of these shapes, not on the 8 billion parameters.\n\n"
        )
        return before, DIFFUSION.format(folder=place, given=steps)
    if heads:
        model = "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"
        before = "The heads are those that AutoDeco's authors publish. Tried on a tiny model, not on this one.\n\n"
        given = 'heads="Jadeislaw/AutoDeco-R1-Distill-Qwen-7B", '
        return before, CAUSAL.format(folder=place, model=model, draft="", given=given)
    target, small = (name.strip('"') for name in SMALL)
    draft = f'draft = AutoModelForCausalLM.from_pretrained("{small}")\n' if decoder.drafts else ""
    given = "assistant_model=draft, " if decoder.drafts else ""
    return "", CAUSAL.format(folder=place, model=target, draft=draft, given=given)


def _results(names: tuple[str, ...]) -> Iterator[str]:
    if not HEADLINES.exists():
        raise UserError(f"{HEADLINES} is missing: make report")
    entries = json.loads(HEADLINES.read_text(encoding="utf-8"))
    yield "On the small models of decoding-study, with 95 % intervals:\n"
    for name in names:
        if name not in entries:
            yield f"- {DESCRIPTIONS[name]}: not measured"
            continue
        entry = entries[name]
        interval = "" if entry["low"] is None else f" [{entry['low']:g}, {entry['high']:g}]"
        value = "not measured" if entry["value"] is None else f"{entry['value']:g}{interval} {entry['unit']}"
        report = f"`results/{entry['profile']}/{entry['from']}/`"
        yield f"- {DESCRIPTIONS[name]}: {value} (n = {entry['n']}; {report})"
    yield "\nThe papers' claims, one by one, with what holds here and what does not: `results/claims.md` there."
