"""Breaks the core on purpose, one line at a time, and asks whether its tests notice:

    python tests/mutants.py [--only=TEXT]

Each mutant is applied to a copy of the package, and the tests that guard its file are run there until the first
failure. Fails if a mutant lives, or if its line is no longer in the code.
"""

import argparse
import dataclasses
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

from tqdm import tqdm

ROOT = pathlib.Path(__file__).resolve().parent.parent
NEXT_TOKEN = "decoding/test_next_token.py"
ORACLE, VERDICT, GENERATOR = "decoding/test_decoder_oracle.py", "decoding/test_verdict.py", "decoding/test_generator.py"
REFILL, REREAD = "decoding/test_refill.py", "decoding/test_reread.py"
OPTIONS = ("-x", "-m", "not pod", "-p", "no:cacheprovider")  # slow tests too
ATTACK_JUDGE, SUFFIXES = "test_attack_judge.py", "test_suffixes.py"
PREFIX, SERVING, STORIES = "decoding/test_prefix.py", "decoding/test_serving.py", "test_stories.py"
SCHEDULES, ROUTING, LOSSES = "decoding/test_schedule_sampling.py", "test_routing.py", "test_losses.py"


@dataclasses.dataclass(frozen=True)
class Mutant:
    """`old` of a file of the package becomes `new`; one of `tests` must fail."""

    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTANTS = (
    Mutant(
        "an answer may end while an alert is pending", "decoding/next_token.py",
        "running & ended & ((mode == Mode.ALERT)", "running & ended & ((mode == Mode.QUERY)", (NEXT_TOKEN, ORACLE),
    ),
    Mutant(
        "refusals are sampled", "decoding/next_token.py",
        "jnp.where(refusing, 0.0, batch.temperature)", "batch.temperature", (NEXT_TOKEN, ORACLE),
    ),
    Mutant(
        "a relapse keeps what nothing vouched for", "decoding/refusal.py",
        "jnp.where(relapse, jnp.minimum(length, kept), length)", "length", (NEXT_TOKEN, ORACLE),
    ),
    Mutant(
        "a refusal may end within its prefix", "decoding/next_token.py",
        "& refusing) & ~prefix_left", "& refusing)", (NEXT_TOKEN, ORACLE),
    ),
    Mutant(
        "NaN is benign", "decoding/verdict.py",
        "~(jnp.isfinite(logit) & (logit < threshold))", "logit >= threshold", (VERDICT,),
    ),
    Mutant(
        "a benign check does not end a streak", "decoding/verdict.py",
        "jnp.where(good, 0, verdict.streak)", "verdict.streak", (VERDICT, ORACLE),
    ),
    Mutant(
        "one check less confirms", "decoding/verdict.py",
        "streak >= gate.confirmations", "streak >= gate.confirmations - 1", (VERDICT, ORACLE),
    ),
    Mutant(
        "a check vouches for more than it read", "decoding/verdict.py",
        "jnp.where(vouched, jnp.minimum(length, stop), verdict.safe_length)",
        "jnp.where(vouched, length, verdict.safe_length)", (VERDICT, ORACLE),
    ),
    Mutant(
        "a rewind keeps what came before the refusal", "decoding/verdict.py",
        'verdict.safe_length if gate.mode == "rewind" else length', "length", (VERDICT, ORACLE),
    ),
    Mutant(
        "the forced prefix is judged", "decoding/verdict.py",
        "relapse = due & refusing & past_prefix & malicious", "relapse = due & refusing & malicious", (VERDICT, ORACLE),
    ),
    Mutant(
        "rule 3 stops a token early", "routing.py",
        "transition + r3 + 1", "transition + r3", (ROUTING, VERDICT, ORACLE),
    ),
    Mutant(
        "rule 2 reads one token less", "routing.py",
        "return count - r2, count", "return count - r2 + 1, count", (ROUTING, VERDICT, ORACLE),
    ),
    Mutant(
        "a refusal's window reaches before the refusal", "decoding/windows.py",
        "jnp.maximum(start, jnp.where(refusing, verdict.refusal_start, 0))", "jnp.maximum(start, 0)", (VERDICT, ORACLE),
    ),
    Mutant(
        "windows of a prefilled answer leave gaps", "decoding/windows.py",
        "max(1, gate.r2 // (2 * gate.confirmations))", "gate.r2 + 1", (ORACLE,),
    ),
    Mutant(
        "[CLS] reads auxiliary tokens", "routing.py",
        "inside & routing.content[:, None, :] & same", "inside & same", (ROUTING,),
    ),
    Mutant(
        "[CLS] reads other conversations", "routing.py",
        "routing.content[:, None, :] & same &", "routing.content[:, None, :] &", (ROUTING,),
    ),
    Mutant(
        "tokens see other conversations", "routing.py",
        "return same & (slots[:, None] >= slots[None, :])",
        "return (same | True) & (slots[:, None] >= slots[None, :])", (ROUTING,),
    ),
    Mutant(
        "the first [CLS] stands behind the answer", "placement.py",
        "where[prompt_length:] += len(visible)", "where[total:] += len(visible)", (ROUTING,),
    ),
    Mutant(
        "the rejected answer of a pair is trained on", "placement.py",
        "        if segment.train_lm:\n", "        if True:\n", ("test_dpo.py",),
    ),
    Mutant(
        "an unsafe answer is trained on", "data/examples.py",
        "train_lm = example.train_lm and bool(example.response)", "train_lm = bool(example.response)", ("test_data.py",),
    ),
    Mutant(
        "a refusal's checks replace the signal", "decoding/decoder.py",
        "jnp.where(due & ~refusing, layout.cls, layout.aside)", "jnp.where(due, layout.cls, layout.aside)", (ORACLE,),
    ),
    Mutant(
        "the cap comes before the check", "decoding/loop.py",
        "    due |= (state.step >= state.limit) & ", "    due |= False & ", (ORACLE, GENERATOR, SCHEDULES),
    ),
    Mutant(
        "a refusal inside a prefilled answer is forgotten", "decoding/first_pass.py",
        "refuse |= inside | end", "refuse |= end", (ORACLE,),
    ),
    Mutant(
        "answers do not see the signal", "decoding/loop.py",
        "decoder.gate is not None and decoder.gate.visible)", "False)", (ORACLE,),
    ),
    Mutant(
        "a pending alert is released at the cap", "decoding/requests.py",
        "return ids[:safe], safe\n", "return ids, len(ids)\n", (ORACLE,),
    ),
    Mutant(
        "condemned tokens are released", "decoding/requests.py",
        "ids[:released] + ids[start:]", "ids", (ORACLE,),
    ),
    Mutant(
        "a row that is taken over counts its predecessor's steps", "decoding/refill.py",
        "jnp.full_like(fresh.begun, state.turn)", "fresh.begun", (REFILL,),
    ),
    Mutant(
        "tokens are read as they lie in the ring", "decoding/requests.py",
        "slots[np.argsort(rank[slots])]", "slots", (REFILL,),
    ),
    Mutant(
        "a row goes round to its own first tokens", "decoding/first_pass.py",
        "limit=jnp.minimum(batch.limit, decoder.longest),", "limit=batch.limit,", (REFILL,),
    ),
    Mutant(
        "a row that has stopped escapes the second reading", "decoding/reread.py",
        "hit = running & unsettled", "hit = running & ~stopped & unsettled", (REREAD,),
    ),
    Mutant(
        "the first reading takes back what the second has found", "decoding/verdict.py",
        "(verdict.mode == Mode.CONFIRMED) & gate.reread", "(verdict.mode == Mode.CONFIRMED) & False", (REREAD,),
    ),
    Mutant(
        "unlabelled checks count in the loss", "training/losses.py",
        "return jnp.sum(losses * weights) / total", "return jnp.sum(losses) / total", (LOSSES, "test_objective.py"),
    ),
    Mutant(
        "a judge that scores steers the search", "evaluation/campaign.py",
        "self.steering.judge([self._exchange", "next(iter(self.judges.values())).judge([self._exchange", (ATTACK_JUDGE,),
    ),
    Mutant(
        "of several judges the last one decides", "evaluation/judges/every.py",
        "if verdict.complied]", "]", (ATTACK_JUDGE,),
    ),
    Mutant(
        "suffixes that validate train too", "data/suffixes.py",
        "HELD_OUT - 1) == held_out]", "HELD_OUT - 1) >= held_out]", (SUFFIXES,),
    ),
    Mutant(
        "malicious requests alone are changed", "data/mapped.py",
        "or example.query_label is None:", "or not example.query_label:", (SUFFIXES,),
    ),
    Mutant(
        "a shared beginning is copied to where padding is", "decoding/prefix.py",
        "jnp.arange(self.left_out) - before[:, None], 0)", "jnp.arange(self.left_out) + 0 * before[:, None], 0)", (PREFIX,),
    ),
    Mutant(
        "a request that does not fit takes a row", "decoding/serving.py",
        "                self.check(encoded)", "                pass", (SERVING,),
    ),
    Mutant(
        "most framed requests are in no story", "data/stories.py",
        "draw.share() < STORIES", "draw.share() >= STORIES", (STORIES,),
    ),
)  # fmt: skip


def outcome(mutant: Mutant, folder: pathlib.Path) -> str:
    """ "killed", "LIVES", or what is wrong with the mutant itself. `folder` is a copy of the project, left as it was."""
    path = folder / "safety_align" / mutant.file
    text = path.read_text()
    if text.count(mutant.old) != 1:
        return f"NOT APPLIED: its line is {text.count(mutant.old)} times in {mutant.file}"
    path.write_text(text.replace(mutant.old, mutant.new))
    try:
        for test in mutant.tests:
            command = [sys.executable, "-m", "pytest", *OPTIONS, f"tests/{test}"]
            code = subprocess.run(command, cwd=folder, capture_output=True).returncode
            if code == 1:
                return f"killed by {test}"
            if code:
                return f"NOT TESTED: pytest ended with {code} on {test}"
    finally:
        path.write_text(text)
    return "LIVES"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="TEXT", help="mutants whose description holds this")
    chosen = [mutant for mutant in MUTANTS if parser.parse_args().only in mutant.what]
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    bad = 0
    with tempfile.TemporaryDirectory(prefix="safety_align_mutants_") as home:
        folder = pathlib.Path(home) / "project"
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{home}/compiled")  # one for all of them
        skipped = shutil.ignore_patterns(".*", "runs", "*.egg-info", "__pycache__")
        shutil.copytree(ROOT, folder, ignore=skipped)
        for mutant in tqdm(chosen, unit="mutant", file=sys.stderr, disable=not sys.stderr.isatty()):
            began = time.monotonic()
            found = outcome(mutant, folder)
            bad += not found.startswith("killed")
            tqdm.write(f"{time.monotonic() - began:5.0f} s  {mutant.what}: {found}")
    print(f"{len(chosen) - bad} of {len(chosen)} mutants killed")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
