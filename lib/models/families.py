"""The kinds of models that the registry knows: what differs between them is data here, not branches in loops."""

from lib.decoding.family import Family

FAMILIES = {
    family.name: family
    for family in (
        Family("study-ar", eot_ids=(0,), chat=False),
        Family("study-dlm", eot_ids=(0,), mask_id=1, wide_mask=True, chat=False),
        Family("smollm2", eot_ids=(2, 0)),
        Family("llada", eot_ids=(126081, 126348), mask_id=126336, shift=False, wide_mask=True),
        Family("dream", eot_ids=(151643, 151645), mask_id=151666, wide_mask=True, rule="entropy", schedule="dream"),
        Family("llama-3", eot_ids=(128009, 128001, 128008)),
        Family("llama-3-base", eot_ids=(128001,), chat=False, bos_id=128000),
        Family("llama-2", eot_ids=(2,), chat=False, bos_id=1),
        Family("opt", eot_ids=(2,), chat=False, bos_id=2),
        Family("qwen-2", eot_ids=(151643, 151645)),
        Family("qwen-3", eot_ids=(151645, 151643)),
        Family("gpt-oss", eot_ids=(200002, 199999, 200012)),
    )
}
