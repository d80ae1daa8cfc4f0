"""Alignment of Llama-2-7B, a base model, with the safety signal: the paper's first model: lambda_2 = 0.1, 15 epochs.

The paper's hyperparameters (docs/method.md section 4): an epoch is its 29,600 conversations, half of the labelled queries
malicious; AdamW, 2e-5, x0.85 an epoch. A batch is 16 rows of 1024 tokens, a row each for 16 chips, which hold about 118
conversations where the paper has 72: the steps are fewer accordingly (half the rows take twice the steps). Parameters
and moments are in float32 over `fsdp`, activations in bfloat16. Every question has a system prompt in the authors'
manner, but for those (one in thirty) whose request is the system turn. The data are a stand-in for the paper's (Alpaca
and LIMA, malicious prompts with refusals, unsafe answers for windows only), so the paper's figures need not come out.
Add --config.trainable=signal to leave the language model frozen.

Expects the model's Hugging Face directory in checkpoints/Llama-2-7b-hf (safetensors). Not run yet for lack of chips; a
tiny model of the same family takes the same path in tests/interop/test_published.py.

    python -m launch.train --config=configs/align_llama2_7b.py --workdir=runs/align_llama2_7b
"""

from ml_collections import ConfigDict

from safety_align.training import recipe

SYSTEM_PROMPT = "You are a helpful, respectful and honest assistant. Answer as helpfully as you can, and safely."

PER_ROW = 7.4
"""Conversations in a row of 1024 tokens of this mixture, by Llama-2's tokenizer in the authors' template (measured; other
tokenizers have not been)."""

ROWS = 16


def get_config() -> ConfigDict:
    mixture = dict(
        alpaca=5.0, lima=0.5, malicious_prompts=4.0, safe_responses=0.8, beavertails=4.0, malicious_queries=1.5
    )  # fmt: skip
    planned = recipe.schedule(PER_ROW, ROWS, epochs=15)
    return ConfigDict(
        dict(
            model=dict(preset="llama2_7b", safety_signal=True, dtype="bfloat16", param_dtype="float32", remat="full"),
            template="llama2_authors",
            data=dict(
                data_dir="../shared/data",
                cache_dir="~/.cache/safety_align",
                sequence_length=1024,
                batch_size=ROWS,
                checks_per_row=48,
                seed=0,
                mixture=recipe.balanced(mixture, by="benign_queries"),
                drop_leaks=True,
                max_bad_fraction=0.01,
                validation_examples=200,
                system_turns=1.0,
                other_roles=0.1,
                system_prompt=SYSTEM_PROMPT,
            ),
            optimizer=dict(
                learning_rate=2e-5, schedule="exponential", warmup=0, final=0.85, decay_every=planned["decay_every"],
                weight_decay=0.1, clip=1.0,
            ),
            routing=dict(r1=10, r2=10, r3=10, windows=2),
            lambda_cls=0.1,
            trainable="all",
            steps=planned["steps"],
            accumulation=1,
            init_from="checkpoints/Llama-2-7b-hf",
            seed=0,
            log_every=10,
            eval_every=400,
            save_every=400,
            keep=2,
            mesh=dict(data=1, fsdp=-1, sequence=1, tensor=1),
        )
    )  # fmt: skip
