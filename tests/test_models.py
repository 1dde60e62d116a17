"""The registry: families as data, and each way a checkpoint can be missing or broken as one clear line."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from conftest import tiny
from safetensors.torch import save_file
from transformers import LlamaForCausalLM, Qwen2ForCausalLM

from lib.decoders import decode
from lib.decoding.bidirectional import canvas_logits, position_ids
from lib.decoding.family import Family
from lib.errors import UserError
from lib.models import registry
from lib.models.registry import FAMILIES, MODELS, TIERS, describe, load
from lib.models.study import build_model, build_tokenizer
from lib.studies.autodeco.ablation import NAMES
from lib.tolerator import Tolerator, Vanilla
from lib.training.autodeco.control import CONTROLS
from lib.training.autodeco.recipe import RECIPES


@pytest.fixture
def checkpoints(tmp_path, monkeypatch):
    """A folder as training writes it."""
    monkeypatch.setattr(registry, "CHECKPOINTS", tmp_path)
    build_tokenizer(["What is 12 + 3?\n", "def f(x):\n"]).save_pretrained(tmp_path / "tokenizer")
    torch.manual_seed(0)
    model = build_model("draft")
    folder = tmp_path / "study-draft"
    folder.mkdir()
    weights = {k: v.to(torch.bfloat16).contiguous() for k, v in model.state_dict().items() if k != "lm_head.weight"}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    model.config.save_pretrained(folder)
    return tmp_path


def test_a_checkpoint_loads_with_its_tied_head(checkpoints):
    model = load("study-draft")
    assert model.network.lm_head.weight is model.network.model.embed_tokens.weight
    assert next(model.network.parameters()).dtype == torch.float32
    ids, mask = model.encode(["What is 12?\n", "12\n"])
    assert ids.shape == mask.shape and mask[1, 0] == 0 and mask[:, -1].all()


def test_the_fingerprint_knows_weights_config_and_tokenizer(checkpoints):
    seen = {describe("study-draft")[1]}
    for file in ("study-draft/model.safetensors", "study-draft/config.json", "tokenizer/tokenizer.json"):
        path = checkpoints / file
        path.write_bytes(path.read_bytes() + b" ")
        seen.add(describe("study-draft")[1])
    assert len(seen) == 4
    family, _, dtype = describe("study-draft", "cuda")
    assert family.name == "study-ar" and dtype == "torch.bfloat16"


def test_missing_checkpoint(checkpoints):
    shutil.rmtree(checkpoints / "study-draft")
    with pytest.raises(UserError, match="no checkpoint at .*make train"):
        load("study-draft")


@pytest.mark.parametrize("keep", [0, 7, 5000])
def test_corrupt_weights(checkpoints, keep):
    path = checkpoints / "study-draft" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match="is corrupt.*make train"):
        load("study-draft")


def test_weights_of_another_shape(checkpoints):
    path = checkpoints / "study-draft" / "config.json"
    config = json.loads(path.read_text()) | {"num_hidden_layers": 3}
    path.write_text(json.dumps(config))
    with pytest.raises(UserError, match="does not fit its config"):
        load("study-draft")


def test_unknown_model_lists_the_known():
    with pytest.raises(UserError, match="study-ar"):
        load("study-xl")


def test_the_registry_is_whole():
    assert {entry.tier for entry in MODELS.values()} == set(TIERS)
    trained = {name for name, entry in MODELS.items() if entry.tier == "heads" and not entry.remote}
    assert trained == set(RECIPES)
    assert {*NAMES, *CONTROLS} < set(RECIPES)
    assert all(entry.family in FAMILIES and name == entry.name for name, entry in MODELS.items())
    assert FAMILIES["llada"].eot_ids[0] == 126081 and not FAMILIES["llada"].shift
    assert FAMILIES["dream"].mask_id == 151666 and FAMILIES["dream"].shift


def test_positions_skip_the_padding():
    assert position_ids(torch.tensor([[0, 0, 1, 1, 1]])).tolist() == [[0, 0, 0, 1, 2]]


@pytest.mark.parametrize("shift", [True, False])
def test_canvas_logits_are_those_of_the_whole_sequence(shift):
    model = tiny()
    ids = torch.randint(3, 24, (2, 9))
    mask = torch.ones_like(ids)
    whole = model(input_ids=ids, attention_mask=mask[:, None, None].bool().expand(2, 1, 9, 9)).logits
    family = Family("x", eot_ids=(0,), mask_id=1, shift=shift, wide_mask=True)
    needed = torch.tensor([[1, 0, 1, 1], [0, 0, 0, 1]]).bool()
    ours = canvas_logits(model, ids, mask, needed, family)
    assert torch.allclose(ours, (whole[:, 4:8] if shift else whole[:, 5:9])[needed], atol=1e-5)
    assert not model.lm_head._forward_pre_hooks


class Recorder:
    """Stands for a network whose forward takes what the released classes take; keeps what it was given.

    Its head is no module that it calls, as with LLaDA's tied weights: the logits of all positions come back.
    """

    def get_output_embeddings(self):
        return torch.nn.Linear(1, 1)

    def __call__(self, input_ids, attention_mask=None, **more):
        self.given = {"attention_mask": attention_mask, **more}
        return SimpleNamespace(logits=torch.arange(input_ids.shape[1]).float()[None, :, None].expand(2, -1, 9))


def test_a_network_gets_the_mask_that_its_class_reads():
    """The padding mask alone, or a 4D mask for the attention, with position ids (LLaDA and Dream)."""
    ids = torch.randint(3, 9, (2, 7))
    mask = torch.tensor([[1] * 7, [0, 0, 1, 1, 1, 1, 1]])
    needed = torch.tensor([[1, 1, 1], [0, 1, 0]]).bool()
    network = Recorder()
    narrow = replace(FAMILIES["llada"], wide_mask=False)
    logits = canvas_logits(network, ids, mask, needed, narrow)
    assert logits[:, 0].tolist() == [4, 5, 6, 5]
    assert network.given.keys() == {"attention_mask"} and torch.equal(network.given["attention_mask"], mask)
    logits = canvas_logits(network, ids, mask, needed, FAMILIES["dream"])
    assert logits[:, 0].tolist() == [3, 4, 5, 4], "the next-token shift"
    wide = network.given["attention_mask"]
    assert wide.shape == (2, 1, 7, 7) and wide.dtype == torch.bool and (wide[1, 0, :, :2] == 0).all()
    assert network.given["position_ids"][1].tolist() == [0, 0, 0, 1, 2, 3, 4]


def test_a_shifted_model_needs_a_prompt():
    ids = torch.ones(1, 4, dtype=torch.long)
    with pytest.raises(ValueError, match="at least one prompt token"):
        canvas_logits(tiny(), ids, ids, ids.bool(), FAMILIES["dream"])


@pytest.mark.parametrize(
    ("name", "kind", "vocabulary"), [("llada", LlamaForCausalLM, 126464), ("dream", Qwen2ForCausalLM, 152064)]
)
def test_published_families_decode_with_their_own_token_ids(name, kind, vocabulary):
    """On tiny networks of their kind and vocabulary: no [MASK] is drawn, either end cuts, the own rule decides."""
    torch.manual_seed(0)
    shape = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    network = kind(kind.config_class(vocab_size=vocabulary, num_key_value_heads=1, **shape)).eval()
    family, ids = FAMILIES[name], torch.randint(5, 1000, (3, 6))
    assert family.rule == {"llada": "confidence", "dream": "entropy"}[name]
    for end in family.eot_ids:
        network.lm_head.weight.data[[family.mask_id, end]] *= 50  # both are likely, where they may be drawn
        for options in (Vanilla(canvas=8, steps=4), Tolerator(canvas=8, forwards=6)):
            out = decode(network, ids, options, generator=0, family=family)
            assert (out.responses != family.mask_id).all()
            for row, length in zip(out.responses, out.lengths, strict=True):
                assert (row[length:] == family.eot_ids[0]).all() and not torch.isin(row[:length], ENDS[name]).any()
        network.lm_head.weight.data[[family.mask_id, end]] /= 50
    given = {"generator": 0, "family": family}
    own = decode(network, ids, Vanilla(canvas=8, steps=4), **given).responses
    assert torch.equal(own, decode(network, ids, Vanilla(canvas=8, steps=4, rule=family.rule), **given).responses)


ENDS = {name: torch.tensor(FAMILIES[name].eot_ids) for name in ("llada", "dream")}
