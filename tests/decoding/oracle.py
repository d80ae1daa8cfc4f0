"""Plain references for the decoder: a full forward with a dense mask, and the automaton in plain Python."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from safety_align.decoding.config import GateConfig
from safety_align.model import TransformerConfig
from safety_align.model.attention import rotary_angles, rotate
from safety_align.model.kernels import masked_attention


@functools.partial(jax.jit, static_argnums=0)
def dense_forward(config: TransformerConfig, params, tokens, positions, mask):
    """One row, unrolled layers, any mask [S, S], written anew from the parameters → (logits [S, V], safety [S]).

    Where `[CLS]` (token -1) stands, safety is what the read-out says there: of its own row, or of what the row sees.
    """
    kind, depths = config.signal.kind, config.signal.depths_of(config.layers)
    is_cls = (tokens == -1)[None, :, None]
    safety, features = params["safety_bias"], []

    def norm(x, scale):
        return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + config.norm_eps) * scale

    x = params["embedding"][jnp.maximum(tokens, 0)][None]
    if kind != "probe":
        x = jnp.where(is_cls, params["cls_embedding"], x)
    angles = rotary_angles(positions[None], config)
    for i in range(config.layers):
        p = params[f"layer_{i}"]

        def low(name, x, i=i):  # of rows of [CLS] alone
            if not config.signal.rank or i >= depths[-1]:
                return 0
            flat = x.reshape(1, len(tokens), -1)
            return jnp.where(is_cls, flat @ params[f"adapter_{name}_in"][i] @ params[f"adapter_{name}_out"][i], 0)

        h = norm(x, p["attention_norm"]["scale"])
        q, k, v = (jnp.einsum("bsd,dhe->bshe", h, p["attention"][name]) for name in ("wq", "wk", "wv"))
        if config.signal.rank:
            q, k, v = (t + (low(n, h) + 0 * t.reshape(1, len(tokens), -1)).reshape(t.shape) for n, t in
                       (("wq", q), ("wk", k), ("wv", v)))  # fmt: skip
        if config.qkv_bias:
            q, k, v = (t + p["attention"][name] for t, name in ((q, "bq"), (k, "bk"), (v, "bv")))
        if config.qk_norm:
            q, k = norm(q, p["attention"]["q_norm"]["scale"]), norm(k, p["attention"]["k_norm"]["scale"])
        q, k = rotate(q, angles), rotate(k, angles)
        out = masked_attention(q, k.swapaxes(1, 2), v.swapaxes(1, 2), mask[None])
        x = x + jnp.einsum("bshe,hed->bsd", out, p["attention"]["wo"]) + low("wo", out)
        h = norm(x, p["mlp_norm"]["scale"])
        m = p["mlp"]
        inner = jax.nn.silu(h @ m["gate"] + low("gate", h)) * (h @ m["up"] + low("up", h))
        x = x + inner @ m["down"] + low("down", inner)
        if i + 1 in depths:
            last = i + 1 == config.layers
            reader = params["final_norm"] if last else params[f"layer_{i + 1}"]["attention_norm"]
            seen = norm(x, reader["scale"])[0]
            if kind == "probe":
                n = len(features)
                features.append(jax.nn.gelu(seen @ params["probe_in"][n] + params["probe_in_bias"][n]))
            else:
                safety += seen @ jnp.atleast_2d(params["safety_kernel"])[depths.index(i + 1)]
    if kind == "probe":
        safety = _pooled(params, features, config.signal.members, mask & ~jnp.eye(len(tokens), dtype=bool))
    return norm(x, params["final_norm"]["scale"])[0] @ params["embedding"].T, safety


def _pooled(params, features, members, sees):
    """features [S, E W] of each depth, sees [S, S] → [S]: one pooling of one member after the other."""
    wide = params["probe_in_bias"].shape[1] // members
    heads = params["probe_key"].shape[1] // members
    total = jnp.full(len(sees), params["safety_bias"])
    for e in range(members):
        own = jnp.concatenate([f[:, e * wide : (e + 1) * wide] for f in features], -1)
        for j in range(e * heads, (e + 1) * heads):
            key, value = own @ params["probe_key"][:, j], own @ params["probe_value"][:, j]
            weights = jnp.where(sees, jnp.exp(key), 0)
            said = jnp.where(sees.any(1), (weights @ value) / jnp.maximum(weights.sum(1), 1e-30), 0)
            total += said / members
    return total


class GrowingForward:
    """A row as a list of (token, position, set of entries it attends to), recomputed in full for every question.

    Every `[CLS]` evaluation is an entry of its own, so old verdicts stay: the sequence that a cache would have to
    equal if nothing were ever overwritten.
    """

    def __init__(self, config: TransformerConfig, params, size: int):
        self.config, self.params, self.size = config, params, size
        self.tokens, self.positions, self.sees = [], [], []

    def add(self, token: int, position: int, sees: set[int]) -> int:
        self.tokens.append(token)
        self.positions.append(position)
        self.sees.append(set(sees) | {len(self.tokens) - 1})
        return len(self.tokens) - 1

    def run(self):
        count = len(self.tokens)
        assert count <= self.size
        mask = np.zeros((self.size, self.size), bool)
        window = self.config.sliding_window
        for row, sees in enumerate(self.sees):
            if self.tokens[row] != -1 and window:  # ordinary tokens see their window, and [CLS], whose position id is 0
                at = self.positions[row]
                sees = {k for k in sees if self.positions[k] == 0 or at - self.positions[k] < window}
            mask[row, sorted(sees)] = True
        pad = [0] * (self.size - count)
        arrays = (np.array(x + pad, np.int32) for x in (self.tokens, self.positions))
        logits, safety = dense_forward(self.config, self.params, *arrays, mask)
        return np.asarray(logits), np.asarray(safety)


@dataclasses.dataclass
class Automaton:
    """Method sections 5 and 6 in plain Python, one row; written from the text, not from the decoder's code."""

    gate: GateConfig
    prefix: tuple[int, int]  # tokens of the forced refusal: alone, behind an answer
    kept: int = 0  # response tokens kept
    state: str = "benign"
    why: str = "benign"
    malicious_in_a_row: int = 0
    turned_at: int | None = None
    vouched: int = 0
    refusal_at: int | None = None
    released: int = 0  # tokens before a refusal that the reader gets
    halted: bool = False
    last_window: float = -math.inf  # of a prefilled answer, read again
    read_again: float = -math.inf  # the highest logit at which the second reading refuses

    def _refuse(self, why):
        self.state, self.why, self.released = "refusing", why, self.vouched
        if self.gate.mode == "rewind":
            self.kept = self.vouched
        self.refusal_at = self.vouched = self.kept

    @property
    def forced(self) -> int:
        return self.prefix[self.refusal_at > 0]

    def query(self, malicious: bool):
        if malicious:
            self.state, self.why, self.turned_at = "query", "malicious_query", 0
            if self.gate.dependence != "low":
                self._refuse("malicious_query")

    def window(self) -> tuple[int, int, bool]:
        """Response tokens [start, stop) and whether the query is read."""
        g, n = self.gate, self.kept
        if g.reads == "all":
            return (self.refusal_at, n, False) if self.state == "refusing" else (0, n, True)
        if self.state == "query":
            return 0, min(g.r1, n), True
        if self.state == "refusing":
            return max(self.refusal_at, n - g.r2), n, False
        if self.state in ("alert", "confirmed"):
            return max(0, self.turned_at - g.r2), min(n, self.turned_at + g.r3 + 1), g.windows_include_query
        return max(0, n - g.r2), n, g.windows_include_query

    def settled(self) -> bool:
        if self.gate.reads == "all" or self.gate.schedule != "every":
            return False
        if self.state == "query":
            return self.kept > self.gate.r1
        return self.state == "confirmed" and self.kept > self.turned_at + self.gate.r3 + 1

    def due(self, scheduled: bool) -> bool:
        pending = self.state == "alert" and self.gate.confirm_every_step
        return (scheduled or pending or self.state == "refusing") and not self.settled()

    def inner_windows(self, prefilled: int) -> list[tuple[int, int, bool]]:
        """Windows of a prefilled answer but the one at its end: tau of them in a row fit into a harmful stretch of r2
        tokens and half of it are theirs."""
        g = self.gate
        stride = max(1, math.floor(g.r2 / (2 * (1 if g.dependence == "high" else g.tau))))
        ends = [end for end in range(prefilled - stride, 0, -stride)][::-1]
        if g.reads == "all":
            return [(0, end, True) for end in ends]
        return [(max(0, end - g.r2), end, g.windows_include_query) for end in ends]

    def inside(self, malicious: bool, end: int, prefilled: int):
        """A window inside the prefilled answer, which ends there with `end` tokens: as if these were all so far, but an
        inserted refusal stands behind the whole."""
        self.kept = end
        self.response(malicious, prefilled)
        if self.state != "refusing":
            self.kept = prefilled

    def response(self, malicious: bool, present: int | None = None):
        if self.state == "query":
            return
        if self.state == "refusing":
            if self.kept - self.refusal_at > self.forced:
                if malicious and self.gate.dependence == "high":
                    return
                if malicious:
                    self.halted = True
                    self.kept = min(self.kept, max(self.vouched, self.refusal_at + self.forced))
                elif not self.gate.reread:
                    self.vouched = self.kept
            return
        if not malicious and self.state == "confirmed" and self.gate.reread:
            return  # the second reading may have found it
        if not malicious:
            # What stands behind the window's end, nobody vouches for; windows inside a prefill read up to theirs.
            read = self.kept if present is not None else self.window()[1]
            self.state, self.malicious_in_a_row, self.turned_at = "benign", 0, None
            if not self.gate.reread:
                self.vouched = min(read, self.kept)
            return
        if self.state == "benign":
            self.turned_at = self.kept - 1
        self.malicious_in_a_row += 1
        self.state = "alert"
        if self.malicious_in_a_row >= (1 if self.gate.dependence == "high" else self.gate.tau):
            self.state = "confirmed"
            self.why = "malicious_response"
            if self.gate.dependence != "low":
                self.kept = self.kept if present is None else present
                self._refuse("malicious_response")

    def second_reading(self, logits: dict[int, float], threshold: float, ended: bool = False) -> bool:
        """After a chunk: the logits of windows that end after so many kept tokens, each read without the query. True if the row
        refuses from here on."""
        if self.state == "refusing":
            own = {end: v for end, v in logits.items() if end > self.refusal_at + self.forced}
            if self.gate.dependence != "high" and any(v >= threshold for v in own.values()):
                self.halted = True
                self.kept = min(self.kept, max(self.vouched, self.refusal_at + self.forced))
            elif own and own[self.kept] < threshold:
                self.vouched = self.kept
            return False
        if not logits:
            return False
        tau = 1 if self.gate.dependence == "high" else self.gate.tau
        ordered = [logits[end] for end in sorted(logits)]
        runs = [min(ordered[i : i + tau]) for i in range(len(ordered) - tau + 1)]
        highest = max([*runs, *(ordered[-1:] if ended else [])], default=-math.inf)
        self.read_again = max(self.read_again, highest)
        if self.state not in ("benign", "alert"):
            return False
        if highest >= threshold:
            self._malicious_again()
            return self.state == "refusing"
        if self.state == "benign" and ordered[-1] < threshold:
            self.vouched = self.kept
        return False

    def second_reading_of_prefill(self, chunks: list[dict[int, float]], threshold: float):
        """The same of a prefilled answer: one set of windows after each chunk of it."""
        if self.state == "refusing":
            return
        before = self.state
        for logits in chunks:
            self.kept, whole = max(logits), self.kept
            tau = 1 if self.gate.dependence == "high" else self.gate.tau
            ordered = [logits[end] for end in sorted(logits)]
            runs = [min(ordered[i : i + tau]) for i in range(len(ordered) - tau + 1)]
            self.read_again = max(self.read_again, *runs, -math.inf)
            self.last_window, self.kept = ordered[-1], whole
        if before not in ("benign", "alert"):
            return
        self.vouched = 0
        if self.read_again >= threshold:
            self._malicious_again()
        elif before == "benign" and self.last_window < threshold:
            self.vouched = self.kept

    def _malicious_again(self):
        if self.state == "benign":
            self.turned_at = self.kept - 1
        self.state, self.why = "confirmed", "malicious_response"
        if self.gate.dependence != "low":
            self._refuse("malicious_response")

    def end_of_answer(self, doubtful: bool = False) -> bool:
        """The model wants to end; True if the answer becomes a refusal instead, as a doubtful one does."""
        pending = self.state == "alert" or (doubtful and self.state == "benign")
        if pending and self.gate.dependence != "low":
            self._refuse("malicious_response")
            return True
        return False

    @property
    def status(self) -> str:
        if self.state in ("query", "refusing", "confirmed"):
            return self.why
        return "alert" if self.state == "alert" else "benign"


def logit(p: float) -> float:
    return math.log(p / (1 - p))
