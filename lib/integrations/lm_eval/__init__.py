"""Every decoder as a model of EleutherAI's lm-evaluation-harness: `--model decoding-study`.

    lm_eval --model decoding-study --model_args pretrained=study-ar,method=mtad,draft=study-draft,tau=0.3 -t gsm8k
    python -m lib.integrations.lm_eval --model ...      the same arguments, for releases up to 0.4.13

The harness finds the name by itself where it reads the entry points of installed packages (`lm_eval.models`, its main
branch since August 2026). Releases up to 0.4.13 read none: the second command registers the name and hands over to
the harness's own command. In Python, `import lib.integrations.lm_eval.model` registers it.

Who decides what, one rule: an option of the method that `--model_args` give holds; what they leave out is as the
request has it (the task's generation_kwargs, which `--gen_kwargs` change); what neither says is the method's default.
How tokens are drawn, `temperature` with top-p and top-k, is one thing in this: `--model_args` that give one of them
say it all, so that no draw mixes two laws. Stop strings are the request's alone. docs/lm_eval.md has the details.
"""
