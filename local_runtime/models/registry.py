"""Which file implements which ``model_type``. Knows no TVM until a model is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from local_runtime.errors import UnsupportedModelError
from local_runtime.models import llama_weights

if TYPE_CHECKING:
    from local_runtime.kernels.ops import Ops
    from local_runtime.models.config import ModelConfig
    from local_runtime.models.spec import WeightSpec

__all__ = ["build_model", "model_weight_specs"]

_FAMILIES = {
    "llama": ("local_runtime.models.llama", "LlamaForCausalLM", llama_weights.weight_specs),
    "mistral": ("local_runtime.models.llama", "LlamaForCausalLM", llama_weights.weight_specs),
    "qwen2": ("local_runtime.models.llama", "LlamaForCausalLM", llama_weights.weight_specs),
}


def model_weight_specs(config: ModelConfig) -> list[WeightSpec]:
    """List the parameters of the model that ``config`` describes, in the order of its converted weights.

    Raises:
        UnsupportedModelError: No file implements this ``model_type``.
    """
    specs: list[WeightSpec] = _family(config)[2](config)
    return specs


def build_model(config: ModelConfig, ops: Ops) -> Any:
    """Instantiate the model's ``nn.Module`` on a device's operators. Loads TVM's compiler.

    Raises:
        UnsupportedModelError: No file implements this ``model_type``.
    """
    module, name, _ = _family(config)
    return getattr(import_module(module), name)(config, ops)


def _family(config: ModelConfig) -> Any:
    try:
        return _FAMILIES[config.model_type]
    except KeyError:
        raise UnsupportedModelError(
            f"The architecture {config.model_type!r} is not implemented.", f"Use one of {', '.join(sorted(_FAMILIES))}."
        ) from None
