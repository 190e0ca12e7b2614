"""``hybridllm models``."""

import json

from hybridllm.cli.models import cached_models
from tests.cli.programs import Program


def test_the_bundled_model_is_listed_and_an_empty_cache_says_what_to_do(tmp_path):
    result = Program().run("models", "list", "--cache-dir", tmp_path)
    assert result.exit_code == 0
    assert "kiosk-assistant: llama, " in result.stdout
    assert "none yet; hybridllm compile makes one ready" in result.stdout


def test_without_a_subcommand_it_lists():
    assert Program().run("models").stdout.startswith("Bundled:\n")
    assert json.loads(Program().run("models", "--json").stdout) == json.loads(
        Program().run("models", "list", "--json").stdout
    )
    assert Program().run("models", "--json", "show", "kiosk-assistant").exit_code == 2


def write_artifact(cache, key, **changes):
    folder = cache / "artifacts" / key
    folder.mkdir(parents=True)
    record = {
        "config": {"model_type": "qwen2", "num_layers": 24, "hidden_size": 896},
        "quant": "q4",
        "target": {"name": "Processor X"},
        **changes,
    }
    (folder / "artifact.json").write_text(json.dumps(record))
    (folder / "prefill.o").write_bytes(b"x" * 2**20)


def test_compiled_models_are_listed_and_broken_entries_are_not(tmp_path):
    write_artifact(tmp_path, "a" * 32)
    write_artifact(tmp_path, "b" * 32, config=None)
    write_artifact(tmp_path, "." + "c" * 32)
    record = json.loads(Program().run("models", "list", "--json", "--cache-dir", tmp_path).stdout)
    (entry,) = record["cached"]
    assert (entry["key"], entry["model_type"], entry["quant"], entry["device"]) == (
        "a" * 32,
        "qwen2",
        "q4",
        "Processor X",
    )
    assert entry["size_mib"] == 1.0
    assert record["cache_dir"] == str(tmp_path)
    assert record["bundled"][0]["name"] == "kiosk-assistant"
    assert len(cached_models(tmp_path)) == 1


def test_show_says_what_a_folder_holds():
    record = json.loads(Program().run("models", "show", "kiosk-assistant", "--json").stdout)
    assert record["model_type"] == "llama"
    assert record["parameters"] > 1_000_000
    text = Program().run("models", "show", "kiosk-assistant").stdout
    assert f"Parameters:   {record['parameters'] / 1e6:.1f} million" in text


def test_bad_folders_are_refused_with_2(tmp_path):
    for model, says in (
        (tmp_path / "none", "it is not a folder"),
        (tmp_path, "holds no config.json"),
    ):
        result = Program().run("models", "show", model)
        assert result.exit_code == 2
        assert says in result.stderr
    (tmp_path / "config.json").write_text('{"model_type": "mamba"}')
    result = Program().run("models", "show", tmp_path)
    assert (result.exit_code, "'mamba'" in result.stderr) == (2, True)
