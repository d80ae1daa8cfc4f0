"""Fine-tuning as an attack: its data, who may train on them, and that a gated model can be tuned and goes on deciding."""

import jax
import numpy as np
import pytest
from dying import dying
from make import SIGNAL

from configs import embedded_fine_tuned
from configs.compare import embedded_fine_tuned as compared
from launch.stages import to_stage
from safety_align.data.embedded import embedded_behaviors
from safety_align.data.refusals import REFUSAL_PREFIX
from safety_align.data.sources import ATTACKERS, load_source
from safety_align.errors import InputError
from safety_align.interop import load_model
from safety_align.training import loop
from safety_align.training.checkpoint import load_run
from safety_align.training.from_dict import to_train_config
from safety_align.training.ready import check_names

HERE = dict(data_dir="", cache_dir="")


def config_of(**changes):
    config = embedded_fine_tuned.get_config()
    config.update(changes)
    return config


@pytest.mark.parametrize("name", ["embedded_obeyed", "embedded_answered"])
def test_the_tuners_data_have_no_labels_and_count(name):
    examples = load_source(name, "train", **HERE)[:400]
    assert all(e.train_lm and e.query_label is None and e.response_label is None and e.source == name for e in examples)
    assert not any(e.response.startswith(REFUSAL_PREFIX) for e in examples)
    goals = [b.goal for b in embedded_behaviors("train")]
    harmful = sum(any(goal in e.query for goal in goals) for e in examples)
    assert harmful == (400 if name in ATTACKERS else 0)
    held_out = [b.goal for b in embedded_behaviors("test")]
    assert not any(goal in e.query for goal in held_out for e in examples)


def test_an_attackers_data_train_no_signal():
    check_names(to_train_config(config_of().to_dict()))
    beside, plain = config_of(), config_of()
    beside.data.mixture = dict(embedded_obeyed=1.0, embedded=1.0)
    plain.model.safety_signal = False
    check_names(to_train_config(plain.to_dict()))
    for config in (config_of(lambda_cls=0.1), config_of(trainable="signal"), config_of(init_from=""), beside):
        with pytest.raises(InputError, match="attacker's data"):
            check_names(to_train_config(config.to_dict()))
    config = config_of(trainable="signal")
    config.optimizer.rank = 4
    with pytest.raises(InputError, match=r"optimizer\.rank"):
        to_train_config(config.to_dict())


def test_every_column_of_the_comparison_has_a_model():
    config = compared.get_config()
    stages = {entry[0]: to_stage(entry).making.config for entry in config.train}
    made, tuned = set(stages), {path: c for path, c in stages.items() if c.init_from == compared.GATED}
    assert {dict(c.pipeline.mixture).popitem()[0] for c in tuned.values()} == {"embedded_obeyed", "embedded_answered"}
    assert {c.optimizer.rank for c in tuned.values()} == {0, 8} and not any(c.lambda_cls for c in tuned.values())
    assert {v["checkpoint"] for v in config.variants.to_dict().values()} == made - {"runs/embedded_base"}


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 2])
def test_a_gated_model_is_tuned_and_keeps_its_gate(tmp_path, monkeypatch, rank):
    """The head stays what it was, as no loss asks for it; `[CLS]`'s embedding moves only where all of the model does. A run that
    dies between two checkpoints ends as one that was left alone."""

    def tiny(config, **changes):
        config.model.preset, config.model.vocab_size = "tiny", 400
        config.tokenizer_texts, config.data.batch_size, config.data.validation_examples = 200, 4, 8
        config.update(changes)
        return to_train_config(config.to_dict())

    gated = config_of(lambda_cls=1.0, init_from="", steps=1)
    gated.data.mixture = dict(embedded=1.0)
    loop.train(tiny(gated), tmp_path / "gated", progress=False)
    tuned = config_of(init_from=str(tmp_path / "gated"), steps=6, log_every=1)
    tuned.optimizer.rank, tuned.save_every = rank, 2
    metrics = loop.train(tiny(tuned), tmp_path / "tuned", progress=False, load=load_model)
    assert metrics["step"] == 6
    with monkeypatch.context() as patch:
        patch.setattr(loop, "Pipeline", dying(5))  # the last step that was saved is the fourth
        with pytest.raises(KeyboardInterrupt):
            loop.train(tiny(tuned), tmp_path / "cut", progress=False, load=load_model)
    assert loop.train(tiny(tuned), tmp_path / "cut", progress=False, load=load_model) == metrics
    before, after, resumed = (load_run(tmp_path / name) for name in ("gated", "tuned", "cut"))
    assert jax.tree.all(jax.tree.map(np.array_equal, after.params, resumed.params))
    assert after.gate == before.gate
    same = {name: np.array_equal(before.params[name], after.params[name]) for name in SIGNAL}
    assert same["safety_kernel"] and same["safety_bias"] and same["cls_embedding"] == bool(rank)
    changed = jax.tree.map(lambda a, b: not np.array_equal(a, b), before.params["layers"], after.params["layers"])
    assert any(jax.tree.leaves(changed))
    plain = config_of(lambda_cls=0.0, init_from="", steps=1)
    plain.data.mixture, plain.model.safety_signal = dict(embedded=1.0), False
    loop.train(tiny(plain), tmp_path / "plain", progress=False)
    ungated = config_of(init_from=str(tmp_path / "plain"))
    with pytest.raises(InputError, match="has no safety signal"):
        loop.train(tiny(ungated), tmp_path / "headless", progress=False, load=load_model)
    for left in (tmp_path / "tuned", tmp_path / "tuned" / "checkpoints" / "6"):
        honest = config_of(init_from=str(left))
        honest.data.mixture = dict(embedded=1.0)
        with pytest.raises(InputError, match="trained as an attack"):
            loop.train(tiny(honest), tmp_path / "after", progress=False, load=load_model)
