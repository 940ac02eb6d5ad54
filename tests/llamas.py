"""A tiny model of transformers in a folder, with a tokenizer of bytes beside it."""

import torch
from torch import nn

SIZES = {"vocab_size": 256, "hidden_size": 32, "intermediate_size": 64, "max_position_embeddings": 32}
HEADS = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}


def made(transformers, kind="Llama", **more):
    """A model that has learned nothing, as its folder would describe it; norms of all kinds of weights."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**{**SIZES, **HEADS, **more})
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, one in model.named_parameters():
            if "norm" in name:
                nn.init.uniform_(one, 0.5, 1.5)
    return model


def saved(model, folder, transformers, tokenizers):
    """In a folder, with the tokenizer."""
    model.save_pretrained(folder)
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE({one: at for at, one in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
