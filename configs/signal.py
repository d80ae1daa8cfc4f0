"""A safety signal beside any published chat model, which stays as it is, to the bit: trained on real data.

The language model is frozen and does not feel the signal (`routing.visible=False`, and the gate's with it): its answers are
the plain model's until the decoder acts. Shape, tokenizer, chat template and dtype are the model's own (docs/interop.md).
Expect `query_auroc` and `window_auroc` of the validation well above 0.5 and a falling `cls_loss`. A step reads 4 rows of 1,024
tokens, forward only, and no deeper than the signal reads: 600 steps of a 0.5B model take two minutes on one H100.

    python -m launch.train --config=configs/signal.py --workdir=runs/signal --config.init_from=Qwen/Qwen2.5-0.5B-Instruct

`--config.signal.kind=row_deep --config.signal.rank=8`: another read-out (docs/method.md section 11).
"""

from ml_collections import ConfigDict

from safety_align.training import recipe


def get_config() -> ConfigDict:
    return ConfigDict(
        dict(
            model=dict(preset="init_from", safety_signal=True),
            signal=dict(kind="probe", rank=0),
            template="init_from",
            data=dict(
                data_dir="../shared/data",
                cache_dir="~/.cache/safety_align",
                sequence_length=1024,
                batch_size=4,
                checks_per_row=128,
                seed=0,
                # No language model's loss: an answer is here for its windows, unsafe ones (clear_answers) against good answers
                # and refusals. Most malicious prompts are questions, most benign ones instructions: without `*_reworded` and
                # `contrast` a probe learns just that, and calls every fifth question of Dolly malicious. Of malicious ones
                # only what is plainly so (data/clear.py): the rest teaches it to refuse what sounds alike. `own_answers` needs
                # those of launch.answers: --config.data.own_answers=DIR --config.data.mixture.own_answers=6.
                mixture=recipe.balanced(
                    dict(
                        alpaca=2.5, lima=0.5, lima_queries=2.0, dolly=1.2, gsm8k=0.6, clear_prompts=0.8, safe_answers=0.8,
                        clear_answers=3.5, clear_queries=3.5, clear_reworded=4.5, benign_reworded=2.5, dolly_queries=2.0,
                        contrast=5.0, own_answers=0.0,
                    ),
                    by="benign_queries",
                ),
                drop_leaks=True,
                max_bad_fraction=0.01,
                validation_examples=100,
                system_turns=0.2,
                other_roles=0.2,
                passages=0.1,
                alone=0.15,
                passages_from="dolly",
            ),
            optimizer=dict(learning_rate=1e-3, schedule="cosine", warmup=30, final=0.05, weight_decay=0.1, clip=1.0),
            routing=dict(r1=10, r2=10, r3=10, windows=6, visible=False),
            lambda_cls=1.0,
            trainable="signal",
            steps=600,
            accumulation=1,
            init_from="",
            seed=0,
            log_every=10,
            eval_every=200,
            save_every=200,
            keep=2,
            mesh=dict(data=-1, fsdp=1, sequence=1, tensor=1),
        )
    )  # fmt: skip
