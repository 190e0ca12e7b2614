"""The training network. Runs where torch is installed (the `train` extra); the rest of the suite needs none."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from training.architecture import TINY

torch = pytest.importorskip("torch", reason="torch is in the train extra only")

if TYPE_CHECKING:
    from pathlib import Path

OF_TORCH_ITSELF = pytest.mark.filterwarnings("default")  # of its compiler, which is not ours to mend
ARCHITECTURE = replace(TINY, vocab_size=96)


def test_cached_decoding_equals_decoding_from_scratch() -> None:
    from training.network import Network, rope_tables

    torch.manual_seed(0)
    network = Network(ARCHITECTURE)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(4 if parameter.dim() == 2 else 1)

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)

    prompts = [list(range(6, 30)), list(range(40, 47)), [9, 9, 12]]
    for prompt, answer in zip(prompts, network.generate(prompts, 8, 2, torch.float32), strict=True):
        ids, expected = list(prompt), []
        for _ in range(8):
            cos, sin = rope_tables(len(ids), ARCHITECTURE.head_dim, ARCHITECTURE.rope_theta, torch.device("cpu"))
            hidden = network(torch.tensor([ids]), cos, sin, [attend] * ARCHITECTURE.num_layers, None, torch.float32)
            token = int(network.logits(hidden)[0, -1].argmax())
            if token == 2:
                break
            expected.append(token)
            ids.append(token)
        assert answer == expected


def test_rounding_is_near_the_converter_s() -> None:
    from local_runtime.quantization import dequantize_q4, quantize_q4
    from training.network import fake_q4

    matrix = np.random.default_rng(0).normal(size=(8, 64)).astype(np.float32)
    ours = fake_q4(torch.from_numpy(matrix)).numpy()
    theirs = dequantize_q4(*quantize_q4(matrix))
    assert np.square(ours - matrix).mean() < 1.5 * np.square(theirs - matrix).mean()
    assert (fake_q4(torch.from_numpy(matrix), 0.0).numpy() == matrix).all()


def test_muon_s_update_has_even_singular_values() -> None:
    from training.muon import orthogonalise

    stack = torch.randn(2, 24, 48, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(stack))
    assert values.min() > 0.4
    assert values.max() < 1.4


@pytest.mark.slow
@OF_TORCH_ITSELF
def test_the_loss_of_a_packed_row_is_that_of_its_dialogues(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.nn import functional

    from training import train
    from training.network import Network, rope_tables

    monkeypatch.setattr(train, "multiplies_bfloat16", lambda _device: False)
    torch.manual_seed(0)
    length = 640
    network = Network(ARCHITECTURE)
    zero, weight = torch.zeros(()), torch.tensor(0.25)
    ids = torch.randint(8, 96, (2, length))
    starts = {0: [0, 300, 590], 1: [0, 17]}
    for row, columns in starts.items():
        ids[row, columns] = train.BOS_ID
    ids[0, 630:] = train.PAD_ID
    answers = (torch.rand(2, length) < 0.3).long()
    loss = train.make_loss(network, train.Recipe(row_tokens=length), torch.device("cpu"))
    got = loss(ids, answers, zero, weight)

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)

    total = counted = 0.0
    for row, columns in starts.items():
        for start, end in zip(columns, [*columns[1:], 630 if row == 0 else length], strict=True):
            part = ids[row, start:end][None]
            cos, sin = rope_tables(part.shape[1], ARCHITECTURE.head_dim, ARCHITECTURE.rope_theta, torch.device("cpu"))
            hidden = network(part, cos, sin, [attend] * ARCHITECTURE.num_layers, None, torch.float32)
            losses = functional.cross_entropy(network.logits(hidden)[0, :-1], part[0, 1:], reduction="none")
            weights = torch.where(answers[row, start + 1 : end] > 0, 1.0, weight)
            total, counted = total + (losses * weights).sum(), counted + weights.sum()
    expected = total / counted
    torch.testing.assert_close(got, expected)

    parameters = list(network.parameters())
    for ours, theirs in zip(
        torch.autograd.grad(got, parameters), torch.autograd.grad(expected, parameters), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def together(*command: str) -> None:
    """Runs a module in two processes, as on two GPUs."""
    run = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", *command]
    done = subprocess.run(run, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_two_processes_share_weights_gradients_and_decisions(tmp_path: Path) -> None:
    together("tests.training.peers_program", str(tmp_path))
    for rank in (0, 1):
        said = json.loads((tmp_path / f"{rank}.json").read_text(encoding="utf-8"))
        assert said["weights"] == [[0.0] * 6, [0.0] * 4]
        assert said["gradients"] == [[0.5] * 6, [10.5] * 4]
        assert said["agreed"] == [True, False]


@pytest.mark.slow
def test_two_processes_train_one_model_and_go_on_after_a_pause(tmp_path: Path) -> None:
    from training.evaluate import load_network

    smoke = ["training.train_model", "--smoke", "--dialogues", "0", "--out", str(tmp_path)]
    together(*smoke, "--pause-at", "2")
    paused, _ = load_network(tmp_path / "model")
    together(*smoke, "--resume")
    steps = [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert steps == [1, 4]
    ended, _ = load_network(tmp_path / "model")
    assert not torch.equal(paused.layers[0].q_proj.weight, ended.layers[0].q_proj.weight)


def test_rows_that_processes_cannot_share_are_refused(tmp_path: Path) -> None:
    from training.peers import Peers
    from training.train import Recipe, train

    peers = Peers()
    peers.count = 2
    with pytest.raises(ValueError, match="3 rows of a step for 2 processes"):
        train(ARCHITECTURE, tmp_path / "tokenizer.json", Recipe(batch_rows=3), tmp_path, peers)


@pytest.mark.slow
@OF_TORCH_ITSELF
def test_a_smoke_run_makes_a_folder_that_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from training import train_model
    from training.evaluate import load_network

    monkeypatch.setattr("sys.argv", ["train_model", "--smoke", "--out", str(tmp_path)])
    train_model.main()
    network, _ = load_network(tmp_path / "model")
    assert network.a.vocab_size == 1024
    assert (tmp_path / "results.json").exists()

    further = [
        "--smoke",
        "--start-from",
        str(tmp_path / "model"),
        "--mix",
        "finish",
        "--out",
        str(tmp_path / "further"),
    ]
    monkeypatch.setattr("sys.argv", ["train_model", *further])
    train_model.main()
    network, _ = load_network(tmp_path / "further" / "model")
    assert network.a.vocab_size == 1024
