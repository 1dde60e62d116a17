"""The special tokens of the papers' models at their real ids, and what else tells their tokenizers apart."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Vocabulary:
    """size: tokens that the tokenizer knows. special: id -> text. ends: the special tokens that end a response.

    first: the id of the first ordinary token. begins: the tokenizer itself puts `bos` before a text. files: `json`
    (tokenizer.json), `merges` (vocab.json and merges.txt). kind: the class that tokenizer_config.json names. marked:
    spaces are the letter of SentencePiece, with a token for each byte that no other holds. plain: added tokens that
    decoding does not skip. often: special tokens that a stand-in says among others.
    """

    size: int
    special: dict[int, str]
    eos: int
    ends: tuple[int, ...]
    bos: int | None = None
    pad: int | None = None
    mask: int | None = None
    unknown: int | None = None
    first: int = 0
    begins: bool = False
    files: str = "json"
    kind: str = "PreTrainedTokenizerFast"
    template: str | None = None
    marked: bool = False
    plain: tuple[int, ...] = ()
    often: tuple[int, ...] = ()
    more: dict = field(default_factory=dict)  # of tokenizer_config.json

    def text_of(self, token: int | None) -> str | None:
        return None if token is None else self.special[token]

    def names(self) -> dict[str, str]:
        """The special tokens by their part, as tokenizer_config.json has them."""
        parts = {"bos": self.bos, "eos": self.eos, "pad": self.pad, "mask": self.mask, "unk": self.unknown}
        return {f"{part}_token": self.special[token] for part, token in parts.items() if token is not None}


def _reserved(known: dict[int, str], first: int, size: int, form: str) -> dict[int, str]:
    """The ids from `first` on that have no name of their own, numbered."""
    free = [token for token in range(first, size) if token not in known]
    return known | {token: form.format(number) for number, token in enumerate(free)}


_LLAMA_3 = _reserved(
    {
        128000: "<|begin_of_text|>",
        128001: "<|end_of_text|>",
        128004: "<|finetune_right_pad_id|>",
        128006: "<|start_header_id|>",
        128007: "<|end_header_id|>",
        128008: "<|eom_id|>",
        128009: "<|eot_id|>",
        128010: "<|python_tag|>",
    },
    128000,
    128256,
    "<|reserved_special_token_{}|>",
)
_QWEN = _reserved(
    {151643: "<|endoftext|>", 151644: "<|im_start|>", 151645: "<|im_end|>"}, 151643, 151665, "<|special_{}|>"
)
_R1 = _reserved(
    {
        151643: "<｜end▁of▁sentence｜>",
        151644: "<｜User｜>",
        151645: "<｜Assistant｜>",
        151646: "<｜begin▁of▁sentence｜>",
        151647: "<|EOT|>",
        151648: "<think>",
        151649: "</think>",
    },
    151643,
    151665,
    "<|special_{}|>",
)
_GPT_OSS = _reserved(
    {
        199998: "<|startoftext|>",
        199999: "<|endoftext|>",
        200002: "<|return|>",
        200003: "<|constrain|>",
        200005: "<|channel|>",
        200006: "<|start|>",
        200007: "<|end|>",
        200008: "<|message|>",
        200012: "<|call|>",
        200018: "<|endofprompt|>",
    },
    199998,
    200019,
    "<|reserved_{}|>",
)
_LLADA = _reserved(
    {
        126080: "<|startoftext|>",
        126081: "<|endoftext|>",
        126336: "<|mdm_mask|>",
        126346: "<|start_header_id|>",
        126347: "<|end_header_id|>",
        126348: "<|eot_id|>",
    },
    126080,
    126349,
    "<|reserved_token_{}|>",
)

VOCABULARIES = {
    "llama-3": Vocabulary(
        128256, _LLAMA_3, eos=128009, ends=(128001, 128008, 128009), bos=128000, begins=True, template="llama-3"
    ),
    "llama-3-base": Vocabulary(128256, _LLAMA_3, eos=128001, ends=(128001,), bos=128000, begins=True),
    "qwen-2": Vocabulary(
        151665, _QWEN, eos=151645, ends=(151645, 151643), pad=151643, kind="Qwen2Tokenizer", template="qwen-2"
    ),
    "qwen-3": Vocabulary(
        151669,
        _QWEN | {151665: "<tool_response>", 151666: "</tool_response>", 151667: "<think>", 151668: "</think>"},
        eos=151645,
        ends=(151645, 151643),
        pad=151643,
        kind="Qwen2Tokenizer",
        template="qwen-3",
        plain=(151665, 151666, 151667, 151668),
    ),
    "r1": Vocabulary(
        151665,
        _R1,
        eos=151643,
        ends=(151643,),
        bos=151646,
        pad=151643,
        begins=True,
        kind="LlamaTokenizerFast",  # what the hub's file says, though it is no such tokenizer
        template="r1",
        plain=(151648, 151649),
        often=(151649,),
        more={"legacy": True, "add_bos_token": True, "add_eos_token": False, "use_default_system_prompt": False},
    ),
    "gpt-oss": Vocabulary(
        200019,
        _GPT_OSS,
        eos=200002,
        ends=(200002, 199999, 200012),
        bos=199998,
        pad=199999,
        template="gpt-oss",
        often=(200005, 200006, 200007, 200008),
    ),
    "llada": Vocabulary(
        126349, _LLADA, eos=126081, ends=(126081, 126348), bos=126080, pad=126081, begins=True, template="llada"
    ),
    "dream": Vocabulary(
        151667,
        _QWEN | {151665: "<|beginoftext|>", 151666: "<|mask|>"},
        eos=151643,
        ends=(151643, 151645),
        bos=151665,
        pad=151643,
        mask=151666,
        files="merges",
        kind="DreamTokenizer",
        template="qwen-2",
        more={"auto_map": {"AutoTokenizer": ["tokenization_dream.DreamTokenizer", None]}},
    ),
    "llama-2": Vocabulary(
        32000,
        {0: "<unk>", 1: "<s>", 2: "</s>"},
        eos=2,
        ends=(2,),
        bos=1,
        unknown=0,
        first=3,
        begins=True,
        kind="LlamaTokenizer",
        marked=True,
        more={"add_bos_token": True, "add_eos_token": False, "legacy": False},
    ),
    "opt": Vocabulary(
        50265,
        {0: "<s>", 1: "<pad>", 2: "</s>", 3: "<unk>"},
        eos=2,
        ends=(2,),
        bos=2,
        pad=1,
        unknown=3,
        first=4,
        begins=True,
        files="merges",
        kind="GPT2Tokenizer",
        more={"add_bos_token": True},
    ),
}
