"""The shape of the bundled network, in one place, without a dependency on torch."""

from __future__ import annotations

from dataclasses import dataclass

from training.chat_format import BOS, END, PAD, SPECIAL_TOKENS


@dataclass(frozen=True)
class Architecture:
    """Sizes of a llama-family decoder. Every matrix side is a multiple of 32, so group-32 quantisation fits."""

    vocab_size: int = 4096
    hidden_size: int = 384
    num_layers: int = 10
    num_heads: int = 6
    num_kv_heads: int = 3
    head_dim: int = 64
    intermediate_size: int = 1024
    context_tokens: int = 2048
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5

    @property
    def parameters(self) -> int:
        """Number of parameters, the tied embedding counted once."""
        attention = self.hidden_size * self.head_dim * (2 * self.num_heads + 2 * self.num_kv_heads)
        layer = attention + 3 * self.hidden_size * self.intermediate_size + 2 * self.hidden_size
        return self.vocab_size * self.hidden_size + self.num_layers * layer + self.hidden_size

    def hf_config(self) -> dict[str, object]:
        """The `config.json` of a Hugging Face `LlamaForCausalLM` of this shape."""
        ids = {token: index for index, token in enumerate(SPECIAL_TOKENS)}
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "num_key_value_heads": self.num_kv_heads,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "max_position_embeddings": self.context_tokens,
            "rms_norm_eps": self.norm_eps,
            "rope_theta": self.rope_theta,
            "rope_scaling": None,
            "attention_bias": False,
            "attention_dropout": 0.0,
            "mlp_bias": False,
            "initializer_range": 0.02,
            "tie_word_embeddings": True,
            "vocab_size": self.vocab_size,
            "bos_token_id": ids[BOS],
            "eos_token_id": ids[END],
            "pad_token_id": ids[PAD],
            "torch_dtype": "float16",
            "use_cache": True,
        }


BUNDLED = Architecture()
TINY = Architecture(hidden_size=64, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=32, intermediate_size=128)
