"""Any decoder of the registry through `model.generate`, and who listens to it."""

from dataclasses import fields

import torch
from conftest import AR, SHIFTED, heads, tiny
from transformers import StoppingCriteria

from lib.autodeco import AutoDecoForCausalLM
from lib.decoders import DECODERS, custom_generate
from lib.decoding.session import watching

LENGTH = 12
CANVASES = [name for name, each in DECODERS.items() if "canvas" in {field.name for field in fields(each.options)}]
WHOLE = [*CANVASES, "assisted", "beam"]  # made, or cut, as a whole
WRITING = [name for name in DECODERS if name not in WHOLE]
ENDS = [0, 5, 9]
TARGET = AutoDecoForCausalLM.from_base(tiny(), heads())
torch.manual_seed(7)
DRAFT = tiny()  # agrees with the target on some tokens
DRAFT.lm_head.weight.data += torch.randn_like(DRAFT.lm_head.weight) * 0.3


def options_of(name, length=LENGTH, **given):
    """Options of any decoder of the registry: this long, with as many forwards as a canvas has tokens at most."""
    kind = DECODERS[name].options
    sizes = {"canvas": length, "steps": length // 2, "forwards": length // 2, "every": 2, "max_new_tokens": length}
    return kind(**{field.name: sizes[field.name] for field in fields(kind) if field.name in sizes} | given)


def plain(name):
    """AutoDeco's heads on the model where they are used; the others get it without."""
    return TARGET if name == "autodeco" else tiny()


class Streamer:
    """Keeps what it is given, and how many forwards there had been."""

    def __init__(self):
        self.given, self.at, self.ended, self.forwards = [], [], 0, 0

    def put(self, value):
        assert value.device.type == "cpu" and not self.ended
        self.given.append(value)
        self.at.append(self.forwards)

    def end(self):
        self.ended += 1

    def count(self, _, begins):
        self.forwards += begins

    @property
    def text(self):
        return torch.cat([value.flatten() for value in self.given])


class Drafts(Streamer):
    """A streamer for canvases."""

    def __init__(self):
        super().__init__()
        self.drafts = []

    def put_draft(self, value):
        assert len(self.given) == 1 and value.shape[0] == 1, "drafts come behind the prompt and before the text"
        self.drafts.append(value[0])


def generate(name, ids, options=None, streamer=None, seed=3, **given):
    """`model.generate` with a decoder of that name."""
    model = plain(name)
    more = {"draft": DRAFT} if DECODERS[name].drafts else {}
    family = SHIFTED if name in CANVASES else AR
    decoder = custom_generate(options or options_of(name), family, seed, streamer=streamer, **more)
    given = {"attention_mask": torch.ones_like(ids), "pad_token_id": 0} | given
    if not streamer:
        return model.generate(ids, custom_generate=decoder, **given)
    if name not in WRITING:  # a hook, which would keep a session from its own forward
        model.register_forward_pre_hook(lambda *_: streamer.count(model, True))
    with watching(lambda network, begins: streamer.count(network, begins and network is model)):
        return model.generate(ids, custom_generate=decoder, **given)


def singles(prompts):
    """The prompts of a batch one by one, without padding."""
    return [row[real.bool()][None] for row, real in zip(*prompts, strict=True)]


class Holds(StoppingCriteria):
    """Holds at some texts: those whose new tokens sum to a multiple of five, which tells lengths and rows apart."""

    def __init__(self, prompt):
        self.prompt, self.seen = prompt, []

    def __call__(self, input_ids, scores, **kwargs):
        assert scores is None
        self.seen.append(input_ids.clone())
        return input_ids[:, self.prompt :].sum(-1) % 5 == 0
