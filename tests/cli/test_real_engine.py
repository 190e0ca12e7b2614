"""The command line on the real engine: the bundled model, compiled for this processor."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.engine_cache import ENGINE_CACHE, ROOT, engine_environment, program
from tests.local_runtime.checkpoints import llama_config, write_checkpoint


def run(*argv, stdin=None, **environment):
    return subprocess.run(
        program("-m", "hybridllm", *argv), input=stdin, capture_output=True, text=True, timeout=300, cwd=ROOT,
        env=engine_environment(**environment), check=False,
    )  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def compiled():
    """Compile first, so that no other test waits for it."""
    done = run("compile", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_compile_reports_the_model_and_the_second_time_compiles_nothing(compiled):
    again = run("compile", "--json")
    record = json.loads(again.stdout)
    assert record["compiled"] is False
    assert record["name"] == "kiosk-assistant"
    assert record["weights_mib"] > 1
    assert "Compiling" not in again.stderr
    assert "was compiled already; loaded in" in run("compile").stdout


def test_models_lists_what_was_compiled(compiled):
    record = json.loads(run("models", "list", "--json").stdout)
    assert record["cache_dir"] == str(ENGINE_CACHE)
    assert compiled["quant"] in {entry["quant"] for entry in record["cached"]}


def test_one_answer_as_json_comes_from_this_device():
    done = run("chat", "--offline", "--json", "--temperature", "0", "--max-tokens", "16", "Hello")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["route"]["served_by"] == "local"
    assert 1 <= record["usage"]["completion_tokens"] <= 16
    assert record["route"]["ttft_ms"] > 0


def test_greedy_answers_repeat_and_streaming_gives_the_same_text():
    argv = ("chat", "--temperature", "0", "--max-tokens", "24", "Who are you?")
    first, second = run(*argv), run(*argv)
    whole = json.loads(run(*argv, "--json").stdout)["choices"][0]["message"]["content"]
    assert first.stdout == second.stdout
    assert first.stdout.rstrip("\n") == whole.rstrip("\n")
    assert re.search(r"Answered by this device, rule \S+, \d+ tokens, first after ", first.stderr)


def test_a_piped_conversation_with_stats_from_the_engine():
    done = run("chat", "--max-tokens", "8", stdin="Hello\nAnd you?\n/stats\n/why\n")
    assert done.returncode == 0, done.stderr
    assert "Answers:        2 by this device" in done.stdout
    assert re.search(r"Engine memory:  \d+ MiB, at most \d+ MiB", done.stdout)
    assert re.search(r"KV cache:       0 of \d+ pages of \d+ tokens", done.stdout)
    assert re.search(r"Rule:        default \(policies/presets/offline-first\.yaml:\d+\)", done.stdout)


def test_a_piped_conversation_goes_to_another_model_and_back_and_through_a_file(tmp_path):
    folder, saved = write_checkpoint(tmp_path / "tiny", llama_config()), tmp_path / "chat.json"
    for path in folder.iterdir():
        os.utime(path, (0, 0))  # its converted weights are found again by the next run
    done = run(
        "chat", "--temperature", "0", "--max-tokens", "8", "--quiet",
        stdin=f"Hello\n/model {folder}\nGo on\n/model {tmp_path}/none\n/model kiosk-assistant\n/save {saved}\n/new\n"
        f"/load {saved}\n/regen\n/stats\n",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Model: tiny\n" in done.stdout
    assert "Model: kiosk-assistant\n" in done.stdout
    assert done.stderr.startswith("hybridllm: There is no model ")  # said, and the chat went on with the one it had
    assert done.stderr.count("\n") == 1
    assert "Going on with 4 messages." in done.stdout
    assert "Answers:        3 by this device" in done.stdout
    roles = [message["role"] for message in json.loads(saved.read_text())["messages"]]
    assert roles == ["user", "assistant", "user", "assistant"]


def test_sigterm_in_the_middle_leaves_no_engine_behind(tmp_path):
    process = subprocess.Popen(
        program("-m", "hybridllm", "chat", "--plain"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True,
        env=engine_environment(),
    )  # fmt: skip
    process.stdin.write("Hello\n")
    process.stdin.flush()
    assert process.stdout.readline()
    engines = psutil.Process(process.pid).children(recursive=True)
    assert engines
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == (143 if sys.platform != "win32" else 1)
    process.stdin.close()
    process.stdout.close()
    assert psutil.wait_procs(engines, timeout=10)[1] == []


def test_bench_gives_medians_with_their_spread():
    done = run(
        "bench", "--json", "--prompt-tokens", "32", "--new-tokens", "8", "--runs", "2", "--loads", "1", "--threads", "1"
    )
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert (record["prompt_tokens"], record["new_tokens"], record["threads"]) == (32, 8, 1)
    for name in ("load_s", "ttft_ms", "prefill_tokens_per_s", "decode_tokens_per_s"):
        assert 0 < record[name]["min"] <= record[name]["median"] <= record[name]["max"], name
    assert record["ttft_ms"]["runs"] == 2
    assert record["peak_rss_mib"] > 20
    assert record["compiled"] is False


def test_bench_refuses_what_does_not_fit_the_context():
    done = run("bench", "--prompt-tokens", "100000")
    assert done.returncode == 2
    assert "do not fit the context of" in done.stderr


def test_the_doctor_lets_the_model_answer():
    done = run("doctor", "--json")
    assert done.returncode == 0, done.stdout
    findings = {finding["name"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert re.search(r"loaded in [\d.]+ s on .*; first token after \d+ ms", findings["engine"]["detail"])


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--target", "abacus"], "abacus"),
        (["--target", "{"], "not valid JSON"),
    ],
)
def test_what_the_engine_refuses_is_one_line_and_ends_with_2(argv, says):
    done = run("chat", *argv, "Hello")
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT to another process")
def test_ctrl_c_while_it_compiles_ends_with_130_and_leaves_nothing_torn(tmp_path):
    process = subprocess.Popen(
        program("-m", "hybridllm", "chat", "Hello"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        env=engine_environment(HYBRIDLLM_CACHE=str(tmp_path)),
    )  # fmt: skip
    for line in process.stderr:
        if line.startswith("Compiling"):
            break
    began_s = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert time.monotonic() - began_s < 10
    assert out == ""
    assert errors.splitlines()[-1] == "hybridllm: interrupted"
    assert not list((tmp_path / "artifacts").glob("[0-9a-f]*/artifact.json"))
