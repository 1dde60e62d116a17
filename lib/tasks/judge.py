"""Ratings of open answers by a language model behind an OpenAI-compatible endpoint of the user's own.

Off unless JUDGE_URL (such as http://127.0.0.1:8000/v1) and JUDGE_MODEL are set; JUDGE_API_KEY where one is needed.
What the judge said is kept in build/judged, so that nothing is asked twice. Its prompt is ours: ratings compare with
each other, not with printed ones.
"""

import json
import os
import re
import urllib.request
from hashlib import sha256
from pathlib import Path

from lib.errors import UserError, why
from lib.paths import BUILD, write_whole

FOLDER = BUILD / "judged"
SECONDS, TRIES = 120, 3
LOWEST, HIGHEST = 1.0, 10.0
PROMPT = (
    "Below is a conversation between a user and an assistant. Judge the assistant's last answer: is it correct, does "
    "it do what the user asks, is it clear and as long as it needs to be? Give your reasons in a few sentences. Then "
    "write a line «Rating: [[n]]», where n is a whole number from 1, useless, to 10, as good as can be.\n"
)


def wanted() -> bool:
    """Whether a judge is set. Raises UserError for half a setting."""
    given = [name for name in ("JUDGE_URL", "JUDGE_MODEL") if os.environ.get(name)]
    if len(given) == 1:
        raise UserError(f"{given[0]} is set alone: a judge needs JUDGE_URL and JUDGE_MODEL, or neither")
    return bool(given)


def question_of(turns: list[tuple[str, str]], reference: str | None) -> str:
    """What the judge reads. turns: (user, assistant) in order; reference: a good last answer, where there is one."""
    talk = "".join(f"\n### User\n{user}\n\n### Assistant\n{said}\n" for user, said in turns)
    known = f"\n### A correct answer to the last question, for comparison\n{reference}\n" if reference else ""
    return f"{PROMPT}{talk}{known}"


def rating(turns: list[tuple[str, str]], reference: str | None = None) -> float | None:
    """1 to 10 for the last answer; None where the judge's reply has no rating.

    Raises UserError where the endpoint does not answer; what was rated before is kept.
    """
    question = question_of(turns, reference)
    model = os.environ["JUDGE_MODEL"]
    path = FOLDER / f"{sha256(json.dumps([model, question]).encode()).hexdigest()[:32]}.json"
    if not path.is_file():
        reply = _asked(model, question)
        FOLDER.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps({"model": model, "question": question, "reply": reply}, indent=1))
    return rating_in(_reply(path))


def rating_in(reply: str) -> float | None:
    """The last number in double brackets, if it is from 1 to 10."""
    found = re.findall(r"\[\[\s*(\d+(?:\.\d+)?)\s*\]\]", reply)
    return float(found[-1]) if found and LOWEST <= float(found[-1]) <= HIGHEST else None


def _reply(path: Path) -> str:
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["reply"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged: remove it, and the judge is asked again") from error


def _asked(model: str, question: str) -> str:
    address = f"{os.environ['JUDGE_URL'].rstrip('/')}/chat/completions"
    body = {"model": model, "temperature": 0, "messages": [{"role": "user", "content": question}]}
    key = os.environ.get("JUDGE_API_KEY")
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    for attempt in range(TRIES):
        try:
            request = urllib.request.Request(address, json.dumps(body).encode(), headers)
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                return str(json.loads(answer.read())["choices"][0]["message"]["content"])
        except (OSError, ValueError, LookupError, TypeError) as error:
            if attempt == TRIES - 1:
                raise UserError(
                    f"the judge at {address} did not answer ({why(error)}): start it, correct JUDGE_URL, JUDGE_MODEL "
                    "or JUDGE_API_KEY, or unset them; what is rated is kept"
                ) from error
    raise AssertionError
