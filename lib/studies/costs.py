"""What a way to decode costs, by counting: so much a token of a text, so much a response of a canvas."""


def a_token(lines: list[dict]) -> float:
    """Forwards of the model that answers, a token, its end counted, for a shorter text is not a cheaper way.

    Those of a draft are not among them.
    """
    return sum(line["target_forwards"] for line in lines) / sum(line["tokens_kept"] + 1 for line in lines)


def a_response(lines: list[dict], plain: list[dict]) -> float:
    """Positions computed, in forwards of the `plain` way on the same items, for a forward of WINO computes the canvas
    twice."""
    own, theirs = (sum(line["positions"] for line in some) for some in (lines, plain))
    return own / theirs * sum(line["target_forwards"] for line in plain) / len(plain)
