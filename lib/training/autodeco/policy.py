"""Heads as a policy over settings, and its policy gradient: pure functions of states, draws and rewards.

A setting is drawn from a few, g_1 < ... < g_K, that stand evenly before the sigmoid of a head: T = hottest sigmoid(g)
and P = sigmoid(g). With m(h) what the head says before its sigmoid,

    pi(k | h) = exp(-(g_k - m(h))^2 / (2 spread^2)) / the sum of these over the choices,

a Gaussian around the head on few points. Decoding takes the centre alone, so these are heads as any others. A token
y is drawn at temperature T_k and top-p P_j with the probability pi(k | h) pi(j | h, T_k) p_kj(y). REINFORCE for a
response of reward r, with the mean reward b of the other responses to its question, which no draw of its own changes:

    grad E[r] = E[(r - b) * sum over its tokens of grad log q],

    q = pi(k | h) pi(j | h, T_k)                          of `settings`: what was chosen,
    q = sum over k, j of pi(k | h) pi(j | h, T_k) p_kj(y)  of `tokens`: the chance of the token, whatever was chosen.

The gradient of the second is the expectation of that of the first given the text: the same mean, less variance, and
where every setting gives the same token nothing moves. 2603.09065 chooses among settings at every token by a network
on the frozen model, by REINFORCE with a reward at the end, as here; the Gaussian on few points, the sum over settings
and the group as baseline (that of RLOO, and but for its scale of GRPO) are ours.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lib.autodeco.heads import Heads, statistics
from lib.decoding.options import Options

ESTIMATORS = ("tokens", "settings")
NEVER = -60.0  # the log of a probability that is 0 but for rounding


@dataclass(frozen=True)
class Policy(Options):
    """choices: K, of each head. farthest: g_K, and -g_1; 4 makes temperatures from 0.04 to 1.96 where hottest is 2.

    spread: of the Gaussian. entropy: the weight of the policy's mean entropy in nats, a bonus which keeps it from the
    outermost choices. estimator: `tokens` or `settings`. scaled: divide by a group's standard deviation, as GRPO
    does, which no longer maximises the mean reward.
    """

    choices: int = 9
    farthest: float = 4.0
    spread: float = 0.7
    entropy: float = 0.0
    estimator: str = "tokens"
    scaled: bool = False

    def check(self) -> None:
        self.require("choices", self.choices >= 2, "2 or more")
        self.require("farthest", self.farthest > 0, "above 0")
        self.require("spread", self.spread > 0, "above 0")
        self.require("entropy", self.entropy >= 0, "0 (off) or more")
        self.require("estimator", self.estimator in ESTIMATORS, f"one of {', '.join(ESTIMATORS)}")


@dataclass(frozen=True)
class Drawn:
    """N drawn tokens: the states [N, H], what the top-p head sees of each choice of temperature besides the state
    [N, K, F], the chosen k and j [N, 2], log p_kj(y) of the drawn token [N, K, J], and its response's number [N]."""

    hidden: Tensor
    seen: Tensor
    chosen: Tensor
    log_probs: Tensor
    response: Tensor


def choices(heads: Heads, policy: Policy, device="cpu") -> tuple[Tensor, Tensor]:
    """Temperatures [K] and top-p values [J] that can be chosen; of a head that is not used 1 alone."""
    points, used = _points(policy, device), heads.config.heads
    one = torch.ones(1, device=device)
    temperatures = heads.config.hottest * torch.sigmoid(points) if "temperature" in used else one
    return temperatures, torch.sigmoid(points) if "top_p" in used else one


def _points(policy: Policy, device) -> Tensor:
    return torch.linspace(-policy.farthest, policy.farthest, policy.choices, device=device)


def tempered(logits: Tensor, temperatures: Tensor) -> tuple[Tensor, Tensor]:
    """logits [n, V] by each of temperatures [K]: scaled and their softmax, both [n, K, V] in float32."""
    scaled = logits.float()[:, None] / temperatures[:, None]
    scaled = scaled.clamp(min=torch.finfo(torch.float32).min)
    return scaled, torch.softmax(scaled, -1)


def seen_by_top_p(heads: Heads, temperatures: Tensor, scaled: Tensor, probs: Tensor) -> Tensor:
    """What enters the top-p head besides the state, at every temperature [K]: [n, K, F]."""
    parts = [temperatures.expand(scaled.shape[:-1])[..., None]]
    if heads.config.statistics:
        parts.append(statistics(scaled, probs))
    return torch.cat(parts, -1)


def log_policy(heads: Heads, hidden: Tensor, seen: Tensor, policy: Policy) -> tuple[Tensor, Tensor]:
    """log pi(k | h) [n, K] and log pi(j | h, T_k) [n, K, J] for hidden [n, H] and seen [n, K, F]."""
    points, (n, k) = _points(policy, hidden.device), seen.shape[:2]

    def around(centre: Tensor) -> Tensor:
        return torch.log_softmax(-((points - centre) ** 2) / (2 * policy.spread**2), -1)

    log_temperature, log_top_p = hidden.new_zeros(n, k), hidden.new_zeros(n, k, 1)
    if "temperature" in heads.config.heads:
        log_temperature = around(heads.temp_head(hidden))
    if "top_p" in heads.config.heads:
        log_top_p = around(heads.top_p_head(torch.cat([hidden[:, None].expand(-1, k, -1), seen], -1)))
    return log_temperature, log_top_p


def token_log_probs(probs: Tensor, top_ps: Tensor, tokens: Tensor) -> Tensor:
    """log p_kj(y) [n, K, J] of tokens [n] in the nuclei top_ps [J] of probs [n, K, V]; NEVER outside of a nucleus.

    The nucleus is that of `lib.decoding.distributions.nucleus`: tokens with less than top-p before them.
    """
    order = probs.sort(dim=-1, descending=True, stable=True)
    reached = order.values.double().cumsum(-1)
    place = (order.indices == tokens[:, None, None]).int().argmax(-1, keepdim=True)  # [n, K, 1]
    wanted = top_ps.double().expand(*reached.shape[:2], -1).contiguous()
    last = torch.searchsorted(reached[..., :-1].contiguous(), wanted)  # the place of the token that crosses
    last = last.masked_fill(wanted >= 1, probs.shape[-1] - 1)
    own = probs.gather(-1, tokens[:, None, None].expand(-1, probs.shape[1], 1)).double()
    found = (own / reached.gather(-1, last)).log().masked_fill(place > last, NEVER)
    return found.clamp(min=NEVER).to(probs.dtype)


def advantages(rewards: Tensor, scaled: bool = False) -> Tensor:
    """rewards [Q, S] of S responses to each question, minus the mean of the other S - 1; see Policy.scaled."""
    centred = rewards - rewards.mean(-1, keepdim=True)
    if scaled:
        return centred / (rewards.std(-1, keepdim=True) + 1e-6)
    return centred * rewards.shape[-1] / (rewards.shape[-1] - 1)


def policy_loss(heads: Heads, drawn: Drawn, advantage: Tensor, policy: Policy) -> Tensor:
    """What has the gradient at the top of this file, its sign changed: `advantage` [R] of the responses."""
    log_t, log_p = log_policy(heads, drawn.hidden, drawn.seen, policy)
    if policy.estimator == "tokens":
        score = torch.logsumexp((log_t[..., None] + log_p + drawn.log_probs).flatten(1), -1)
    else:
        rows, (k, j) = torch.arange(len(log_t), device=log_t.device), drawn.chosen.T
        score = log_t[rows, k] + log_p[rows, k, j]
    loss = -(advantage[drawn.response] * score).sum() / len(advantage)
    if policy.entropy:
        of_top_p = -(log_p.exp() * log_p).sum(-1)
        entropy = (log_t.exp() * (of_top_p - log_t)).sum(-1)
        loss = loss - policy.entropy * entropy.mean()
    return loss
