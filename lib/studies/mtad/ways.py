"""The ways to decode that MTAD is compared with, each with its published setting, all with the same draft."""

# Of draft and target alike, as MTAD's authors run all methods.
WARP = {"temperature": 1.0, "top_k": 10, "top_p": 0.9}
PUBLISHED = (4, 0.5)  # draft length and tau of the released code, at which the paper's numbers are judged
GREEDY = {"temperature": 0.0, "top_k": 0, "top_p": 1.0}

# Name in tables -> method, options beside the warp and the length.
WAYS: dict[str, tuple[str, dict]] = {
    "sampling": ("autoregressive", WARP),
    "greedy": ("autoregressive", {}),
    "beam search": ("beam", {}),
    "speculative": ("speculative", WARP),
    "block verification": ("speculative", WARP | {"block": True}),
    "HSD": ("hsd", WARP),
    "token tree": ("tree_speculative", WARP),
    "assisted": ("assisted", WARP),
    "assisted, its defaults": ("assisted", WARP | {"gamma": 20, "confidence": 0.4}),
    "speculative, greedy": ("speculative", GREEDY),
    "assisted, ensemble 0.5": ("assisted", WARP | {"ensemble": 0.5}),
    "threshold": ("threshold", WARP),
    "typical": ("typical", WARP),
    "typical, its truncation": ("truncated", WARP),
    "BiLD": ("bild", WARP),
    "BiLD, greedy": ("bild", GREEDY),
    "MTAD": ("mtad", WARP),
    "MTAD, softmax": ("mtad", WARP | {"weights": "softmax"}),
    "MMTAD": ("mtad", WARP | {"tree": True}),
    "MMTAD, slot": ("mtad", WARP | {"tree": True, "reference": "slot"}),
    "MMTAD, greedy": ("mtad", GREEDY | {"tree": True}),
}
# The same distribution of texts as sampling, whatever the draft says. On one chain HSD is block verification, verdict
# by verdict (lib/mtad/peers/hsd.py): their texts are the same.
LOSSLESS = ("speculative", "block verification", "HSD", "token tree", "assisted", "assisted, its defaults")
# What each option or rule of today is held against: the published form, or what a lossy rule is taken for.
CONTROLS = (
    ("typical", "typical, its truncation"),
    ("BiLD, greedy", "greedy"),
    ("MTAD, softmax", "MTAD"),
    ("MMTAD, slot", "MMTAD"),
    ("MMTAD, greedy", "greedy"),
)
PLAIN = ("autoregressive", "beam", "mtjd")  # methods without a draft
