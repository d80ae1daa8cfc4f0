"""Attacks, over-refusal, head and perplexity on the real evaluation files (`data_dir`), by the gate that came with the model.

    python -m launch.evaluate --config=configs/eval/small.py --checkpoint=runs/align_small --output=runs/eval_small

A measurement is a name, a `kind`, the fields of that kind, and its data. One can be changed or left out:

    … --config.measurements.attacks.prefill_5.tokens=7 --config.measurements.attacks.sampling=none
"""

from ml_collections import ConfigDict

PREFILLS = (5, 10, 20, 40)
"""Lengths in tokens."""


def get_config() -> ConfigDict:
    return ConfigDict(
        dict(
            gate={},  # fields that take the place of the model's own
            data_dir="../shared/data",
            cache_dir="~/.cache/safety_align",
            measurements=dict(attacks=attacks(), benign=benign(), head=head(), utility=utility()),
            judge=dict(kind="refusal_rules"),
            behaviors=150,
            benign=250,
            head_examples=400,
            max_new_tokens=64,
            batch_size=32,
            seed=0,
        )
    )


def attacks() -> ConfigDict:
    return named(
        **suite(plain="advbench", nested="deepinception", suffixed="gcg", sampled="malicious_instruct", draws=25),
        direct_harmbench=dict(kind="direct", behaviors="harmbench"),
    )


def suite(plain: str, nested: str, suffixed: str, sampled: str, draws: int) -> dict:
    """The attacks that every evaluation makes, on these sets of behaviours; `draws`: behaviours under the sampling grid,
    which multiplies."""
    return dict(
        direct=dict(kind="direct", behaviors=plain),
        **{f"prefill_{tokens}": dict(kind="prefill", tokens=tokens, behaviors=plain) for tokens in PREFILLS},
        nested=dict(kind="published", behaviors=nested),
        gcg_transfer=dict(kind="published", behaviors=suffixed),
        sampling=dict(
            kind="sampling_grid", behaviors=sampled, n=draws,
            temperatures=(0.7, 1.0, 1.5), top_ps=(0.7, 1.0), top_ks=(0, 40), best_of=1,
        ),
    )  # fmt: skip


def benign() -> ConfigDict:
    return named(alpaca=questions(), xstest_safe=dict(kind="xstest", label="safe"))


def questions() -> dict:
    return dict(kind="held_out", source="alpaca", longest=600)


def against_alpaca(*sets: str) -> dict:
    """First checks of the goals of sets of behaviours, against those of held-out Alpaca."""
    alpaca = dict(kind="held_out", source="alpaca")
    return {
        f"{name}_vs_alpaca": dict(kind="queries", malicious=dict(kind="goals", behaviors=name), benign=alpaca)
        for name in sets
    }


def head() -> ConfigDict:
    alpaca = dict(kind="held_out", source="alpaca")
    unsafe = dict(kind="judged", is_safe=False)
    return named(
        **against_alpaca("advbench", "harmbench", "malicious_instruct"),
        xstest_unsafe_vs_safe=dict(
            kind="queries",
            malicious=dict(kind="xstest", label="unsafe", n=450),  # all there are
            benign=dict(kind="xstest", label="safe", n=450),
        ),
        windows_unsafe_vs_benign=dict(kind="windows", malicious=unsafe, benign=alpaca),
        windows_unsafe_vs_refusals=dict(
            kind="windows", malicious=unsafe, benign=dict(kind="held_out", source="malicious_prompts")
        ),
    )


def utility() -> ConfigDict:
    return named(perplexity=dict(kind="perplexity", examples=questions()))


def named(**measurements: dict) -> ConfigDict:
    """Measurements in the order in which the table shows them."""
    return ConfigDict(measurements, sort_keys=False)
