"""What the paper prints for AutoDeco over other ways to decode, by the tasks and models of this library."""

from lib.reporting.papers import printed

# Task -> the paper's table and row that speak of it; other tasks are compared with the mean of general tasks.
PRINTED_ROWS = {
    "math": ("Table 1", "mean"),
    "aime24": ("Table 1", "AIME"),  # both years in one cell
    "aime25": ("Table 1", "AIME"),
    "brumo25": ("Table 1", "BRUMO25"),
    "hmmt25": ("Table 1", "HMMT25"),
    "beyondaime": ("Table 1", "BeyondAIME"),
    "code": ("Table 2", "LiveCodeBench"),
    "livecodebench": ("Table 2", "LiveCodeBench"),
    "gpqa_diamond": ("Table 2", "GPQA-Diamond"),
    "mmlu_pro_100": ("Table 2", "MMLU-Pro"),
    "ifeval": ("Table 2", "IFEval"),
}
PRINTED_MODELS = {
    "llama-nemotron-8b": "Llama-Nemotron-8B",
    "r1-qwen-7b": "R1-Distill-Qwen-7B",
    "qwen3-30b": "Qwen3-30B-A3B",
    "gpt-oss-20b": "GPT-OSS-20B",
}


def printed_gain(task: str, method: str, model: str = "") -> tuple[str, float]:
    """The paper's table, and AutoDeco minus a method there, in points: of that model where the paper has it, else
    the mean over its models. A mean of tasks is that of the printed cells: the printed means of Table 2 do not follow
    from them."""
    where, row = PRINTED_ROWS.get(task, ("Table 2", "mean"))
    found = printed("autodeco", where)
    found = found[found.task != "mean"] if row == "mean" else found[found.task == row]
    found = found.groupby(["model", "method"]).value.mean().unstack()
    gain = found.autodeco - found[method]
    return where, float(gain.get(PRINTED_MODELS.get(model), gain.mean()))
