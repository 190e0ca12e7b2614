"""Model configurations: both spellings of every option, defaults as transformers has them, and refusals by name."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from local_runtime.errors import CheckpointError, LocalRuntimeError, UnsupportedModelError
from local_runtime.models.config import ModelConfig, RopeConfig
from local_runtime.models.llama_weights import weight_specs
from local_runtime.paths import cache_folder, model_folder
from tests.local_runtime.checkpoints import llama_config, mistral_config, qwen2_config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def parse(config: dict[str, Any], generation: dict[str, Any] | None = None) -> ModelConfig:
    return ModelConfig.from_dict(config, generation)


def without(config: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in keys}


def test_a_llama_configuration_is_read_field_by_field() -> None:
    config = parse(llama_config(attention_bias=True, mlp_bias=True, dtype="bfloat16"))
    assert config == ModelConfig(
        model_type="llama",
        hidden_size=64,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_dim=16,
        intermediate_size=160,
        vocab_size=320,
        context_tokens=512,
        norm_eps=1e-5,
        rope=RopeConfig(10000.0, "default", {}),
        qkv_bias=True,
        o_bias=True,
        mlp_bias=True,
        bos_ids=(0,),
        eos_ids=(2,),
        dtype="bfloat16",
    )


def test_qwen2_has_a_bias_on_query_key_and_value_only() -> None:
    config = parse(qwen2_config())
    assert (config.qkv_bias, config.o_bias, config.mlp_bias, config.tie_embeddings) == (True, False, False, True)


def test_defaults_are_those_of_transformers() -> None:
    llama = parse(without(llama_config(), "num_key_value_heads", "max_position_embeddings", "rope_parameters"))
    assert (llama.num_kv_heads, llama.context_tokens, llama.rope.theta) == (4, 2048, 10000.0)
    assert parse(llama_config(num_key_value_heads=None)).num_kv_heads == 4
    mistral = without(mistral_config(num_attention_heads=8, hidden_size=64), "num_key_value_heads")
    assert parse(mistral).num_kv_heads == 8


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"rope_theta": 5e5, "rope_scaling": None}, {"rope_type": "default", "rope_theta": 5e5}),
        (
            {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}},
            {"rope_type": "linear", "rope_theta": 5e5, "factor": 2.0},
        ),
        (
            {
                "rope_theta": 5e5,
                "rope_scaling": {
                    "rope_type": "llama3",
                    "factor": 32.0,
                    "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0,
                    "original_max_position_embeddings": 8192,
                },
            },
            {
                "rope_type": "llama3",
                "rope_theta": 5e5,
                "factor": 32.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
        ),
    ],
)
def test_both_spellings_of_rope_mean_the_same(old: dict[str, Any], new: dict[str, Any]) -> None:
    old_config = {**without(llama_config(), "rope_parameters"), **old}
    assert parse(old_config).rope == parse(llama_config(rope_parameters=new)).rope


@pytest.mark.parametrize(
    ("config", "window", "layers"),
    [
        (mistral_config(), None, ()),
        (mistral_config(sliding_window=4096), None, ()),
        (mistral_config(sliding_window=512), None, ()),
        (mistral_config(sliding_window=100), 100, (0, 1)),
        (without(mistral_config(max_position_embeddings=32768), "sliding_window"), 4096, (0, 1)),
        (qwen2_config(sliding_window=100), None, ()),
        (qwen2_config(sliding_window=100, use_sliding_window=True, max_window_layers=2), None, ()),
        (qwen2_config(sliding_window=100, use_sliding_window=True, max_window_layers=1), 100, (1,)),
        (qwen2_config(sliding_window=100, use_sliding_window=True, max_window_layers=0), 100, (0, 1)),
        (
            qwen2_config(sliding_window=100, use_sliding_window=True, layer_types=["full_attention"] * 2),
            None,
            (),
        ),
        (
            qwen2_config(
                sliding_window=100,
                use_sliding_window=True,
                layer_types=["sliding_attention", "full_attention"],
            ),
            100,
            (0,),
        ),
        (llama_config(sliding_window=100), None, ()),
    ],
)
def test_a_sliding_window_is_that_of_the_layers_that_have_one(
    config: dict[str, Any], window: int | None, layers: tuple[int, ...]
) -> None:
    parsed = parse(config)
    assert parsed.context_tokens == config["max_position_embeddings"]
    assert (parsed.sliding_window, parsed.windowed_layers) == (window, layers)
    assert [parsed.is_windowed(layer) for layer in range(parsed.num_layers)] == [layer in layers for layer in (0, 1)]


@pytest.mark.parametrize("layer_types", [["full_attention"], ["full_attention", "chunked_attention"], [1, 2]])
def test_an_unknown_kind_of_attention_is_refused(layer_types: list[Any]) -> None:
    with pytest.raises(UnsupportedModelError, match="layer_types"):
        parse(qwen2_config(sliding_window=100, use_sliding_window=True, layer_types=layer_types))


def test_end_of_sequence_ids_are_merged_from_both_files() -> None:
    assert parse(llama_config(eos_token_id=[2, 5]), {"eos_token_id": [5, 7]}).eos_ids == (2, 5, 7)
    assert parse(llama_config(eos_token_id=None)).eos_ids == ()
    assert parse(llama_config(bos_token_id=-1)).bos_ids == ()


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"model_type": "gpt2"}, "the architecture 'gpt2'"),
        ({}, "no model_type"),
        (llama_config(hidden_act="gelu"), "hidden_act 'gelu'"),
        (llama_config(rope_parameters={"rope_type": "yarn", "factor": 4.0}), "rope type 'yarn'"),
        (llama_config(rope_parameters={"rope_type": "default", "partial_rotary_factor": 0.5}), "partial_rotary_factor"),
        (llama_config(quantization_config={"quant_method": "gptq"}), "quant_method 'gptq'"),
    ],
)
def test_what_is_not_implemented_is_refused_by_name(config: dict[str, Any], named: str) -> None:
    with pytest.raises(UnsupportedModelError, match=named) as caught:
        parse(config)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (without(llama_config(), "hidden_size"), "has no hidden_size"),
        (llama_config(hidden_size=0), "hidden_size .* must be a positive whole number, not 0"),
        (llama_config(num_hidden_layers="2"), "num_hidden_layers .* not '2'"),
        (llama_config(num_attention_heads=True), "num_attention_heads .* not True"),
        (llama_config(num_attention_heads=3), "hidden_size 64, which 3 attention heads do not divide"),
        (llama_config(num_key_value_heads=3), "4 attention heads, which 3 key-value heads do not divide"),
        (llama_config(head_dim=15), "odd head_dim 15"),
        (llama_config(rms_norm_eps=-1e-6), "rms_norm_eps .* positive number"),
        (llama_config(tie_word_embeddings="yes"), "tie_word_embeddings .* must be true or false"),
        (llama_config(eos_token_id=320), "eos_token_id .* is 320, which is no token of a vocabulary of 320"),
        (llama_config(rope_parameters={"rope_type": "linear"}), r"rope_parameters of config\.json has no factor"),
        (llama_config(rope_parameters=[1]), "rope_parameters .* must be an object"),
        (
            llama_config(
                rope_parameters={"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 1}
            ),
            "high_freq_factor above low_freq_factor",
        ),
        (
            qwen2_config(use_sliding_window=True, max_window_layers="x"),
            "max_window_layers .* must be a whole number",
        ),
    ],
)
def test_impossible_values_are_named(config: dict[str, Any], named: str) -> None:
    with pytest.raises(CheckpointError, match=named) as caught:
        parse(config)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="There is no model folder"):
        ModelConfig.from_folder(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"holds no config\.json"):
        ModelConfig.from_folder(tmp_path)
    file = tmp_path / "config.json"
    file.write_text("{")
    with pytest.raises(CheckpointError, match="is a file, not a model folder"):
        ModelConfig.from_folder(file)
    with pytest.raises(CheckpointError, match="is not JSON"):
        ModelConfig.from_folder(tmp_path)
    file.write_text("[]")
    with pytest.raises(CheckpointError, match="must hold a JSON object"):
        ModelConfig.from_folder(tmp_path)
    file.write_text(json.dumps(llama_config()))
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": 9}))
    assert ModelConfig.from_folder(tmp_path).eos_ids == (2, 9)


@contextlib.contextmanager
def shut(folder: Path) -> Iterator[None]:
    """Nobody may enter the folder; where the tests run as root, whom no mode keeps out, they are somebody else meanwhile."""
    folder.chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o700)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs a user's rights to files")
@pytest.mark.parametrize("read", [lambda path: ModelConfig.from_folder(path), lambda path: model_folder(str(path))])
def test_a_folder_that_may_not_be_entered_is_named(tmp_path: Path, read: Callable[[Path], object]) -> None:
    inner = tmp_path / "shut" / "model"
    inner.mkdir(parents=True)
    with (
        shut(tmp_path / "shut"),
        pytest.raises(CheckpointError, match=r"model cannot be opened: Permission d") as caught,
    ):
        read(inner)
    assert caught.value.mend.startswith("Give this user the right to read it")
    assert "Errno" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs a user's rights to files")
def test_a_configuration_that_may_not_be_reached_is_named(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(llama_config()))
    with contextlib.suppress(PermissionError):
        tmp_path.chmod(0o711)
    with shut(tmp_path / "model"), pytest.raises(CheckpointError, match=r"cannot be opened: Permission denied"):
        ModelConfig.from_folder(tmp_path / "model")


@pytest.mark.parametrize("path", ["a" * 5000, "a/" * 3000, "null\0byte", "half a pair \ud800"])
def test_a_path_that_no_system_follows_is_told_in_one_short_line(path: str) -> None:
    for read in (model_folder, ModelConfig.from_folder):
        with pytest.raises(CheckpointError, match=r"cannot be opened|There is no model") as caught:
            read(path)
        said = str(caught.value)
        assert caught.value.mend.startswith("Give the folder of a Hugging Face checkpoint")
        assert len(said) < 600
        assert said.isprintable()
        assert "Errno" not in said


def test_the_home_of_a_user_that_there_is_not_is_named() -> None:
    with pytest.raises(CheckpointError, match="~nosuchuser/x begins with the home of a user that cannot be found"):
        model_folder("~nosuchuser/x")
    with pytest.raises(LocalRuntimeError, match=r"The cache folder ~nosuchuser/x begins .* HYBRIDLLM_CACHE"):
        cache_folder("~nosuchuser/x")


def test_to_dict_is_plain_json() -> None:
    config = parse(llama_config(rope_parameters={"rope_type": "linear", "factor": 2.0}))
    assert json.loads(json.dumps(config.to_dict()))["rope"] == {
        "theta": 10000.0,
        "type": "linear",
        "parameters": {"factor": 2.0},
    }


def test_the_parameters_come_in_order_with_their_biases() -> None:
    specs = weight_specs(parse(llama_config(num_hidden_layers=1, attention_bias=True, mlp_bias=True)))
    assert [spec.name for spec in specs] == [
        "embed",
        "layers.0.input_norm",
        "layers.0.qkv",
        "layers.0.qkv_bias",
        "layers.0.o",
        "layers.0.o_bias",
        "layers.0.post_norm",
        "layers.0.gate_up",
        "layers.0.gate_up_bias",
        "layers.0.down",
        "layers.0.down_bias",
        "final_norm",
        "head",
    ]
    by_name = {spec.name: spec for spec in specs}
    assert by_name["layers.0.qkv"].shape == (128, 64)
    assert by_name["layers.0.qkv"].source_rows == (64, 32, 32)
    assert by_name["layers.0.gate_up"].sources == (
        "model.layers.0.mlp.gate_proj.weight",
        "model.layers.0.mlp.up_proj.weight",
    )


def test_tied_embeddings_have_no_head_and_plain_models_no_bias() -> None:
    names = [spec.name for spec in weight_specs(parse(llama_config(tie_word_embeddings=True)))]
    assert "head" not in names
    assert not any(name.endswith("_bias") for name in names)
    assert [name for name in (spec.name for spec in weight_specs(parse(qwen2_config()))) if "bias" in name] == [
        "layers.0.qkv_bias",
        "layers.1.qkv_bias",
    ]
