"""On a GPU, where there is one: every decoder makes the tokens that it makes on a CPU, in float32 and compiled."""

import pytest
import torch
from conftest import AR, tiny
from test_decoders import EVERY, Both, family_of
from test_mtad import DRAFTING
from torch._dynamo.utils import counters

from lib.autodeco import AutoDecoForCausalLM, Heads, HeadsConfig
from lib.decoders import decode
from lib.decoding.randomness import RowGenerator

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


@pytest.fixture(scope="module", params=["off", "auto"])
def switch(request):
    """Plain steps, and those of CUDA graphs, which are a GPU's default."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DECODING_COMPILE", request.param)
        yield request.param


def on(device: str, network, prompts, options, family, **more):
    ids, mask = (tensor.to(device) for tensor in prompts)
    generator = RowGenerator.of(7, [f"item{i}" for i in range(len(ids))])
    given = {"generator": generator, "family": family, "attention_mask": mask, **more}
    return decode(network, ids, options, **given).responses.cpu()


@pytest.mark.parametrize("options", EVERY, ids=repr)
def test_a_decoder_makes_the_tokens_of_the_cpu(prompts, options, switch):
    found = {}
    for device in ("cpu", "cuda"):
        base = tiny().to(device)
        torch.manual_seed(5)
        heads = Heads(HeadsConfig(32, width=16)).to(device)
        network = Both(base, AutoDecoForCausalLM.from_base(base, heads))
        found[device] = on(device, network, prompts, options, family_of(options))
    assert torch.equal(found["cpu"], found["cuda"])


@pytest.mark.parametrize("name", DRAFTING)
def test_a_drafting_decoder_makes_the_tokens_of_the_cpu(prompts, name, switch):
    found = {}
    for device in ("cpu", "cuda"):
        target, draft = tiny().to(device), tiny(seed=3).to(device)
        found[device] = on(device, target, prompts, DRAFTING[name], AR, draft=draft)
    assert torch.equal(found["cpu"], found["cuda"])


def test_compiled_steps_are_seen_to_run(prompts, switch, capfd):
    """A failed compilation goes on with plain steps after a line, and a step that CUDA graphs refuse goes without:
    the tests above would pass in both cases."""
    counters["inductor"].clear()
    on("cuda", tiny(seed=9).to("cuda"), prompts, EVERY[0], AR)
    assert "not compiled" not in capfd.readouterr().err
    assert counters["inductor"]["cudagraph_skips"] == 0


def test_a_gpu_has_a_counter_of_joules():
    from lib.running.cost import window

    found = window(lambda: int(torch.ones(64, 64, device="cuda").sum()), "cuda", seconds=1)
    assert found.joules is None or found.joules > 1, found.reason
