"""One variant, all measurements: the dictionary that `results.json` holds for it."""

import dataclasses
import hashlib
import json
import pathlib
import sys
from collections.abc import Callable
from typing import TypedDict

from jax.sharding import Mesh
from tqdm import tqdm

from safety_align import distributed
from safety_align.attacks import Direct, Prefill, Published, SamplingGrid, load_behaviors, subsample
from safety_align.bundle import Bundle
from safety_align.data.rows import read_csv
from safety_align.data.sources import load_source
from safety_align.decoding import GateConfig, Generator, score_queries, score_windows
from safety_align.errors import InputError
from safety_align.evaluation.asr import attack_success
from safety_align.evaluation.head import compare_scores, sample_windows
from safety_align.evaluation.over_refusal import benign_refused
from safety_align.evaluation.utility import perplexity
from safety_align.fields import check_fields
from safety_align.files import check_name, write_atomically
from safety_align.strict_json import read_json_lines
from safety_align.text import Turn

MAX_DRAWS = 10_000
"""Answers to one behaviour, at most."""


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """What to measure.

    Attributes:
      data: "real" (the files of `data_dir`) or "embedded".
      data_dir, cache_dir: raw and prepared data.
      behaviors: behaviours per attack at most. sampling_behaviors: likewise for the sampling grid, which multiplies.
      prefills: lengths in tokens.
      temperatures, top_ps, top_ks, best_of: the sampling grid.
      benign: benign prompts per set.
      head_examples: items per class for the head's AUROC.
      max_new_tokens: cap on new tokens. batch_size: rows of the decoder.
      seed: of every subsample.
    """

    data: str = "real"
    data_dir: str = "../shared/data"
    cache_dir: str = "~/.cache/safety_align"
    behaviors: int = 100
    sampling_behaviors: int = 25
    prefills: tuple[int, ...] = (5, 10, 20, 40)
    temperatures: tuple[float, ...] = (0.7, 1.0, 1.5)
    top_ps: tuple[float, ...] = (0.7, 1.0)
    top_ks: tuple[int, ...] = (0, 40)
    best_of: int = 1
    benign: int = 200
    head_examples: int = 400
    max_new_tokens: int = 64
    batch_size: int = 32
    seed: int = 0

    def __post_init__(self):
        counts = (
            "behaviors",
            "sampling_behaviors",
            "benign",
            "head_examples",
            "max_new_tokens",
            "batch_size",
            "best_of",
        )
        check_fields(self, seed=0, **dict.fromkeys(counts, 1))
        if self.data not in ("real", "embedded"):
            raise InputError(f"data {self.data!r} is not real or embedded")
        if few := [tokens for tokens in self.prefills if tokens < 1]:
            raise InputError(f"prefills must be at least 1, got {few[0]}")
        # The grid checks each of its settings.
        draws = len(SamplingGrid(self.temperatures, self.top_ps, self.top_ks).settings()) * self.best_of
        if not 1 <= draws <= MAX_DRAWS:
            raise InputError(
                f"temperatures x top_ps x top_ks x best_of are {draws} draws for each behaviour, not 1 to {MAX_DRAWS}"
            )


def evaluate_variant(
    bundle: Bundle,
    gate: GateConfig | None,
    config: EvalConfig,
    name: str,
    partial: pathlib.Path | None = None,
    progress: bool = True,
    mesh: Mesh | None = None,
) -> dict:
    """{"attacks", "benign_refused", "head", "perplexity"} of one variant.

    Args:
      bundle: the checkpoint.
      gate: None for a variant without the signal; its "head" is then empty.
      config: what to measure.
      name: the variant's, for the progress bar.
      partial: directory where finished parts are kept, so that an interrupted evaluation goes on where it was.
      progress: show bars on stderr.
      mesh: where the bundle's parameters are, by the rules table; None for one device. Several processes make the same
        call with a mesh of all their devices: each feeds its rows, all get the result, the first alone writes parts and
        shows bars. What is done already is as the first finds it.
    """
    check_name(name, "variant")
    generator = Generator(bundle, gate or "off", mesh=mesh)
    key = hashlib.sha256(repr((config, gate, bundle.config, bundle.step)).encode()).hexdigest()[:12]

    def measure(part: str, run: Callable[[Callable[[int], None]], dict], total: int) -> dict:
        saved = partial / f"{name}.{part}.{key}.json" if partial else None
        first, found = distributed.is_main(), None
        if first and saved and saved.is_file():
            found = json.loads(saved.read_text("utf-8"))
        if (found := distributed.from_main(found)) is not None:
            return found
        silent = not (progress and first)
        with tqdm(
            total=total, desc=f"{name}: {part}", unit="answer", disable=silent, file=sys.stderr, leave=False
        ) as bar:

            def advance(count: int) -> None:
                bar.update(count)
                distributed.stop_if_requested()

            value = run(advance)
        if first and saved:
            partial.mkdir(parents=True, exist_ok=True)
            write_atomically(saved, json.dumps(value))
        return value

    result: dict = {"attacks": {}, "benign_refused": {}, "head": {}}
    options = dict(max_new_tokens=config.max_new_tokens, batch_size=config.batch_size)
    for attack, behaviors, per_behavior in _attacks(config):
        run = lambda bar, a=attack, b=behaviors: attack_success(a, b, generator, progress=bar, **options)  # noqa: E731
        result["attacks"][attack.name] = measure(attack.name, run, len(behaviors) * per_behavior)
    for set_name, prompts in _benign_prompts(config).items():
        run = lambda bar, p=prompts: benign_refused(p, generator, progress=bar, **options)  # noqa: E731
        result["benign_refused"][set_name] = measure(f"benign_{set_name}", run, len(prompts))
    if gate is not None:
        result["head"] = measure("head", lambda bar: _head(bundle, gate, config, mesh), 0)
    examples = _benign_examples(config)
    value = measure("perplexity", lambda bar: {"perplexity": _perplexity(bundle, gate, examples, mesh)}, 0)
    return result | value


def _perplexity(bundle: Bundle, gate: GateConfig | None, examples, mesh: Mesh | None) -> float:
    model, params = bundle.model_config, bundle.params
    if gate is None:
        model = dataclasses.replace(model, safety_signal=False)
    return perplexity(model, params, bundle.tokenizer, bundle.template, examples, mesh=mesh)


def _attacks(config: EvalConfig):
    """(attack, behaviours, requests per behaviour) of the whole suite."""

    def load(real: str, embedded: str, n: int):
        return load_behaviors(real if config.data == "real" else embedded, config.data_dir, n, config.seed)

    plain = load("advbench", "embedded", config.behaviors)
    yield Direct(), plain, 1
    for tokens in config.prefills:
        yield Prefill(tokens), plain, 1
    yield Published("nested"), load("deepinception", "embedded_nested", config.behaviors), 1
    yield Published("gcg_transfer"), load("gcg", "embedded_suffix", config.behaviors), 1
    grid = SamplingGrid(config.temperatures, config.top_ps, config.top_ks, config.best_of)
    draws = len(grid.settings()) * config.best_of
    yield grid, load("malicious_instruct", "embedded", config.sampling_behaviors), draws
    if config.data == "real":
        harmbench = load_behaviors("harmbench", config.data_dir, config.behaviors, config.seed)
        yield Direct("direct_harmbench"), harmbench, 1


def _held_out(config: EvalConfig, name: str):
    return load_source(name, "test", data_dir=config.data_dir, cache_dir=pathlib.Path(config.cache_dir).expanduser())


def _benign_examples(config: EvalConfig):
    if config.data == "embedded":
        from safety_align.data import embedded

        return embedded.embedded_benign("test", config.benign)
    examples = _held_out(config, "alpaca")
    return subsample([e for e in examples if len(e.query) < 600], config.benign, config.seed)


def _benign_prompts(config: EvalConfig) -> dict[str, list[tuple[Turn, ...]]]:
    if config.data == "embedded":
        from safety_align.data import embedded

        lookalikes = embedded.embedded_lookalikes("test", config.benign)
        return {"benign": [e.turns for e in _benign_examples(config)], "lookalikes": [e.turns for e in lookalikes]}
    xstest = read_csv(pathlib.Path(config.data_dir) / "eval" / "xstest_prompts.csv", ["prompt", "label"])
    safe = [(Turn("user", r["prompt"]),) for r in xstest if r["label"] == "safe"]
    return {
        "alpaca": [e.turns for e in _benign_examples(config)],
        "xstest_safe": subsample(safe, config.benign, config.seed),
    }


def _head(bundle: Bundle, gate: GateConfig, config: EvalConfig, mesh: Mesh | None) -> dict:
    """The head on query sets and on windows."""
    tools = bundle.model_config, bundle.params, bundle.tokenizer, bundle.template
    n, seed = config.head_examples, config.seed

    def queries(prompts):
        return score_queries(*tools, [(Turn("user", p),) if isinstance(p, str) else p for p in prompts], mesh)

    def windows(examples):
        lengths = [len(bundle.tokenizer.encode(e.response)) for e in examples]
        return score_windows(*tools, sample_windows(examples, lengths, gate.r2, 2, seed), mesh)

    def compare(malicious, benign):
        return compare_scores(malicious, benign, gate.threshold)

    if config.data == "embedded":
        from safety_align.data import embedded

        behaviors = load_behaviors("embedded", "", n, seed)
        benign, lookalikes = (f("test", n) for f in (embedded.embedded_benign, embedded.embedded_lookalikes))
        bad = queries([b.goal for b in behaviors])
        test = embedded.embedded_examples("test", 4 * n)
        unsafe = [e for e in test if e.response_label == 1][:n]
        refusals = [e for e in test if e.query_label == 1 and e.response_label == 0 and e.response][:n]
        bad_windows = windows(unsafe)
        return {
            "queries_vs_benign": compare(bad, queries([e.turns for e in benign])),
            "queries_vs_lookalikes": compare(bad, queries([e.turns for e in lookalikes])),
            "windows_unsafe_vs_benign": compare(bad_windows, windows(benign)),
            "windows_unsafe_vs_refusals": compare(bad_windows, windows(refusals)),
        }
    benign_examples = subsample(_held_out(config, "alpaca"), n, seed)
    benign = queries([e.turns for e in benign_examples])
    folder = pathlib.Path(config.data_dir) / "eval"
    sets = {s: load_behaviors(s, config.data_dir, n, seed) for s in ("advbench", "harmbench", "malicious_instruct")}
    result = {f"{name}_vs_alpaca": compare(queries([b.goal for b in found]), benign) for name, found in sets.items()}
    xstest = read_csv(folder / "xstest_prompts.csv", ["prompt", "label"])
    safe, unsafe = (queries([r["prompt"] for r in xstest if r["label"] == label]) for label in ("safe", "unsafe"))
    result["xstest_unsafe_vs_safe"] = compare(unsafe, safe)
    pairs = [row for _, row in read_json_lines(folder / "beavertails_test.jsonl.gz", _Judged)]
    unsafe_answers = subsample([_pair(p) for p in pairs if not p["is_safe"] and p["response"].strip()], n, seed)
    bad_windows = windows(unsafe_answers)
    result["windows_unsafe_vs_benign"] = compare(bad_windows, windows(benign_examples))
    refusals = subsample(_held_out(config, "malicious_prompts"), n, seed)
    result["windows_unsafe_vs_refusals"] = compare(bad_windows, windows(refusals))
    return result


class _Judged(TypedDict):
    prompt: str
    response: str
    is_safe: bool


@dataclasses.dataclass(frozen=True)
class _Answer:
    turns: tuple[Turn, ...]
    response: str


def _pair(row: dict) -> _Answer:
    return _Answer((Turn("user", row["prompt"]),), row["response"])
