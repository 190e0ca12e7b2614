"""``hybridllm models plan``."""

import json
import re
import sys

import pytest

from local_runtime.card_context import USUAL_CONTEXT_MIB
from local_runtime.paths import model_folder
from tests.cli.programs import Program, run_process
from tests.local_runtime.checkpoints import llama_config

PLENTY = ("--free-mib", "100000", "--target", "cpu")


def plan(*arguments):
    result = Program().run("models", "plan", *arguments, "--json")
    return result.exit_code, json.loads(result.stdout)


def test_all_formats_and_a_spread_of_contexts():
    status, record = plan("kiosk-assistant", *PLENTY)
    assert status == 0
    cases = record["cases"]
    assert [(case["quant"], case["context_tokens"]) for case in cases] == [
        (quant, context) for quant in ("q4", "f16", "f32") for context in (1024, 2048)
    ]
    assert {case["verdict"] for case in cases} == {"fits"}
    assert record["recommended_quant"] == "f16"
    assert record["first_start"] == "fits"
    machine = record["machine"]
    assert (machine["kind"], machine["headroom_mib"], machine["card_mib"]) == ("cpu", 100000.0, None)
    weights = [case["memory_mib"]["weights"] for case in cases[1::2]]
    assert weights == sorted(weights)
    assert cases[0]["token_bytes"] == 15360
    assert cases[1]["memory_mib"]["cache"] == pytest.approx(4 * 2048 * 15360 / 2**20, abs=0.5)


def test_one_case_that_is_cut_and_one_that_is_too_large():
    status, record = plan("kiosk-assistant", "--free-mib", "210", "--quant", "auto", "--target", "cpu")
    assert status == 0
    assert {case["quant"] for case in record["cases"]} == {"f16"}
    assert record["cases"][-1]["verdict"] == "cut"
    assert "memory is short" in record["cases"][-1]["said"]
    assert "Preparing the model for this machine takes" in record["first_start"]
    table = Program().run("models", "plan", "kiosk-assistant", "--free-mib", "210", "--target", "cpu").stdout
    assert "First start: Preparing the model" in table
    status, record = plan("kiosk-assistant", "--free-mib", "150", "--context-tokens", "2048", "--target", "cpu")
    assert status == 5
    assert {case["verdict"] for case in record["cases"]} == {"too large"}


def test_a_table_for_people():
    result = Program().run("models", "plan", "kiosk-assistant", *PLENTY)
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    rows = [line.split() for line in result.stdout.splitlines() if re.match(r"(q4|f16|f32)", line)]
    assert [row[0] for row in rows] == ["q4", "q4", "f16*", "f16*", "f32", "f32"]
    assert all(row[-1] == "fits" for row in rows)
    assert "can be taken" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 150
    refused = Program().run("models", "plan", "kiosk-assistant", "--free-mib", "100", "--target", "cpu")
    assert refused.exit_code == 5
    assert "q4, 1024 tokens: The model needs" in refused.stdout


def test_a_configuration_alone_is_enough(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(llama_config(hidden_size=80, intermediate_size=208, head_dim=16)))
    status, record = plan(tmp_path, *PLENTY)
    assert status == 0
    assert record["stored_mib"] is None
    assert [case["verdict"] for case in record["cases"]] == ["unsupported", "fits", "fits"]
    table = Program().run("models", "plan", tmp_path, *PLENTY).stdout
    assert "no weights in the folder" in table
    assert "multiples of 32" in table


def test_weights_that_belong_to_another_configuration_are_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(llama_config()))
    (tmp_path / "model.safetensors").write_bytes(b"cut")
    result = Program().run("models", "plan", tmp_path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "is no safetensors file" in result.stderr


def test_a_card_s_context_is_measured_where_one_is(monkeypatch):
    monkeypatch.setattr("local_runtime.memory.accelerator_headroom_mib", lambda index: 9000.0)
    monkeypatch.setattr("local_runtime.card_context.context_bytes", lambda index: 321 * 2**20)
    status, record = plan("kiosk-assistant", "--target", "cuda", "--quant", "f16")
    assert status == 0
    assert (record["machine"]["context_mib"], record["machine"]["context_measured"]) == (321.0, True)
    table = Program().run("models", "plan", "kiosk-assistant", "--target", "cuda").stdout
    assert "the process's context takes 321 MiB (measured here)" in table


def test_a_card_can_be_planned_for_where_none_is(monkeypatch):
    monkeypatch.setattr("local_runtime.memory.accelerator_headroom_mib", lambda index: None)
    status, record = plan("kiosk-assistant", "--target", "cuda", "--free-mib", "8000", "--quant", "f16")
    assert status == 0
    assert record["machine"]["card_mib"] == 8000.0
    assert record["machine"]["context_mib"] == USUAL_CONTEXT_MIB
    assert not record["machine"]["context_measured"]
    memory_mib = record["cases"][0]["memory_mib"]
    assert memory_mib["card_context"] == USUAL_CONTEXT_MIB
    parts_mib = memory_mib["weights"] + memory_mib["workspace"] + memory_mib["cache"] + memory_mib["card_context"]
    assert memory_mib["card"] == pytest.approx(parts_mib + 2, abs=0.5)  # and the code
    table = Program().run("models", "plan", "kiosk-assistant", "--target", "cuda", "--free-mib", "8000").stdout
    assert "8000 MiB of the card" in table
    assert "the process's context takes 527 MiB (an H100's, for none can be measured here)" in table
    result = Program().run("models", "plan", "kiosk-assistant", "--target", "cuda")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--free-mib" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--context-tokens", "5000"), "the model's context is 2048 tokens"),
        (("--quant", "q5"), "is not one of"),
        (("--max-sequences", "65"), "--max-sequences"),
        (("--target", "tpu"), "There is no target"),
    ],
)
def test_bad_input_ends_with_2(arguments, says):
    result = Program().run("models", "plan", "kiosk-assistant", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr


def test_help_has_examples():
    result = Program().run("models", "plan", "--help")
    assert len(re.findall(r"^ +hybridllm models plan ", result.stdout, re.MULTILINE)) == 3


def test_neither_tvm_nor_the_tokenizer_is_loaded():
    check = (
        "import sys\nfrom hybridllm.cli.main import main\n"
        f"try:\n    main(['models', 'plan', {str(model_folder('kiosk-assistant'))!r}, '--target', 'cpu', '--json'])\n"
        "except SystemExit:\n    pass\n"
        "sys.stderr.write(' '.join(name for name in ('tvm', 'tvm_ffi', 'tokenizers') if name in sys.modules))"
    )
    done = run_process([sys.executable, "-c", check])
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["name"] == "kiosk-assistant"
