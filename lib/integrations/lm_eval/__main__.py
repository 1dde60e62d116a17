"""lm-eval's own command with `--model decoding-study` in it: `python -m lib.integrations.lm_eval --tasks ...`."""

import sys

from lib.errors import UserError, exit_status


def hand_over() -> None:
    """Register the model and run lm-eval with the arguments of this process."""
    try:
        from lm_eval.__main__ import cli_evaluate
    except ImportError as error:
        raise UserError(f"lm-eval is not installed ({error.name}): pip install 'lm-eval>=0.4.10'") from error
    import lib.integrations.lm_eval.model  # noqa: F401  registers itself

    cli_evaluate()


if __name__ == "__main__":
    sys.exit(exit_status(hand_over))
