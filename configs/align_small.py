"""Alignment of the small model on real data, with the safety signal and windows: variant (b), "gated".

Starts from the warm-up. About 15 minutes on two cores. The paper's lambda_2 is 0.1 from a pretrained 7B model; a
model of this size, trained from scratch, has no notion of harm to draw on, and the head's loss gets weight 1.

    python -m launch.train --config=configs/align_small.py --workdir=runs/align_small
"""

from ml_collections import ConfigDict

from safety_align.training import recipe


def get_config() -> ConfigDict:
    return ConfigDict(
        dict(
            model=dict(preset="small", safety_signal=True),
            template="plain",
            tokenizer_texts=6000,
            data=dict(
                data_dir="../shared/data",
                cache_dir="~/.cache/safety_align",
                sequence_length=192,
                batch_size=40,
                checks_per_row=24,
                seed=2,
                # Half the labelled queries are malicious; the LM sees three benign answers to two refusals.
                mixture=recipe.balanced(
                    dict(
                        alpaca=5.0, lima=0.4, dolly=1.0, gsm8k=0.8, malicious_prompts=4.0, safe_responses=0.8,
                        beavertails=4.0, malicious_queries=3.5, malicious_reworded=3.0, benign_reworded=3.0, dolly_queries=1.0,
                    ),
                    by="benign_queries",
                ),
                drop_leaks=True,
                max_bad_fraction=0.01,
                validation_examples=100,
                system_turns=0.2,
                other_roles=0.2,
            ),
            optimizer=dict(learning_rate=1.5e-3, schedule="cosine", warmup=40, final=0.05, weight_decay=0.1, clip=1.0),
            routing=dict(r1=10, r2=10, r3=10, windows=3),
            lambda_cls=1.0,
            steps=800,
            accumulation=1,
            init_from="runs/warmup_small",
            seed=0,
            log_every=10,
            eval_every=200,
            save_every=200,
            keep=2,
            mesh=dict(data=-1, fsdp=1, sequence=1, tensor=1),
        )
    )  # fmt: skip
