"""Predicted and measured memory of the engine's process, over models from 10 million to half a billion parameters: prints JSON.

Each case is loaded by a fresh engine, which then answers as many and as long requests at once as its cache holds. Measured is the peak
of its resident memory; of a card also what its driver says is in use. Weights are one block of random values over and over: memory
doesn't depend on them. The models are written, converted and compiled into ``--cache-dir`` and stay there for the next time.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np

from local_runtime.build import BuildRequest
from local_runtime.card_context import context_bytes
from local_runtime.child_process import python_command, python_environment
from local_runtime.client import LocalEngine
from local_runtime.events import Finished
from local_runtime.memory import accelerator_headroom_mib
from local_runtime.model_plan import Machine, plan_cases
from local_runtime.models.config import ModelConfig
from local_runtime.models.registry import model_weight_specs
from local_runtime.options import GenerateRequest, LoadOptions, ModelInfo, SamplingOptions
from local_runtime.paths import model_folder

if TYPE_CHECKING:
    from local_runtime.memory_forecast import MemoryForecast

MIB = float(1 << 20)
_PLENTY_MIB = 1e9
_BLOCK_VALUES = 1 << 20
_LONGEST_TOKEN = 14
_NEW_TOKENS = 8
"""Tokens of the first answer; each further one has as many more, so that every number of answers is under way for a while."""

_POLL_S = 0.02
_POLL_CARD_S = 0.004

_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_TEMPLATE = """\
{%- for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{%- endif %}
"""


@dataclass(frozen=True)
class Geometry:
    """The shape of a model with random weights."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    vocab_size: int


GEOMETRIES = {
    "10M": Geometry(256, 704, 6, 8, 4, 16384),
    "50M": Geometry(512, 1408, 8, 8, 2, 49152),
    "150M": Geometry(768, 2048, 12, 12, 12, 49152),
    "0.5B": Geometry(896, 4864, 24, 14, 2, 151936),
}
SPREAD = (
    ("kiosk-assistant", "f16", 2048, 4),
    ("kiosk-assistant", "f16", 512, 1),
    ("kiosk-assistant", "q4", 1024, 8),
    ("10M", "f32", 1024, 2),
    ("10M", "q4", 4096, 2),
    ("50M", "q4", 1024, 4),
    ("50M", "f16", 2048, 2),
    ("50M", "f32", 512, 16),
    ("150M", "f16", 1024, 2),
    ("150M", "q4", 512, 4),
    ("0.5B", "q4", 512, 1),
    ("0.5B", "q4", 256, 4),
    ("0.5B", "f16", 256, 1),
)
"""Model, weight format, context, answers at a time."""


@dataclass(frozen=True)
class Measured:
    """What an engine's process took, in MiB."""

    loaded_mib: float
    peak_mib: float
    card_mib: float


def random_checkpoint(folder: Path, geometry: Geometry) -> Path:
    """Write a checkpoint of a geometry, with a byte-pair tokenizer of its whole vocabulary; what is there already stays."""
    if (folder / "tokenizer_config.json").is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    config: dict[str, Any] = {
        **asdict(geometry),
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-6,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "rope_theta": 10000.0,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "dtype": "float16",
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    _write_weights(folder / "model.safetensors", ModelConfig.from_dict(config))
    _write_tokenizer(folder / "tokenizer.json", geometry.vocab_size)
    settings = {"bos_token": _SPECIAL[0], "eos_token": _SPECIAL[2], "chat_template": _TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def _write_weights(file: Path, config: ModelConfig) -> None:
    header: dict[str, Any] = {}
    total_bytes = 0
    for spec in model_weight_specs(config):
        for index, source in enumerate(spec.sources):
            shape = spec.source_shape(index)
            nbytes = int(np.prod(shape)) * 2
            header[source] = {
                "dtype": "F16",
                "shape": list(shape),
                "data_offsets": [total_bytes, total_bytes + nbytes],
            }
            total_bytes += nbytes
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    block = (np.random.default_rng(0).standard_normal(_BLOCK_VALUES) * 0.02).astype(np.float16).tobytes()
    with file.open("wb") as stream:
        stream.write(len(encoded).to_bytes(8, "little"))
        stream.write(encoded)
        for start in range(0, total_bytes, len(block)):
            stream.write(block[: total_bytes - start])


def _write_tokenizer(file: Path, vocab_size: int) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    random = Random(7)
    pieces = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate((*_SPECIAL, *pieces))}
    merges: list[tuple[str, str]] = []
    while len(vocabulary) < vocab_size:
        pair = random.choice(pieces), random.choice(pieces)
        merged = "".join(pair)
        if len(merged) <= _LONGEST_TOKEN and merged not in vocabulary:
            vocabulary[merged] = len(vocabulary)
            pieces.append(merged)
            merges.append(pair)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(_SPECIAL))
    tokenizer.save(str(file))


def predicted(options: LoadOptions, kind: str) -> MemoryForecast:
    """What a load is expected to take where memory is plenty."""
    folder = model_folder(options.model)
    assert options.quant != "auto"
    assert options.context_tokens is not None
    (case,) = plan_cases(
        folder,
        ModelConfig.from_folder(folder),
        _card() if kind == "cuda" else Machine("cpu", _PLENTY_MIB),
        quants=(options.quant,),
        contexts=(options.context_tokens,),
        max_sequences=options.max_sequences,
    )
    assert case.memory is not None
    return case.memory


def _card() -> Machine:
    """A card whose memory is plenty; what a context takes is measured on the one that is here."""
    context = context_bytes(0)
    if context is None:
        raise RuntimeError("no context can be made on a CUDA device")
    return Machine("cuda", _PLENTY_MIB, _PLENTY_MIB, context / MIB, context_measured=True)


class _CardPeak:
    """The most that is taken of a card's memory beyond what was taken before, read from its driver every few milliseconds."""

    def __init__(self) -> None:
        self._before_mib = self._least_mib = accelerator_headroom_mib() or 0.0
        self._finished = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> _CardPeak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._finished.set()
        self._thread.join()

    @property
    def mib(self) -> float:
        return self._before_mib - self._least_mib

    def _watch(self) -> None:
        while not self._finished.wait(_POLL_CARD_S):
            left_mib = accelerator_headroom_mib()
            if left_mib is None:  # there is no card
                return
            self._least_mib = min(self._least_mib, left_mib)


def measured(options: LoadOptions) -> Measured:
    """Load in a fresh process, answer until the cache is full, and read the peak.

    Raises:
        RuntimeError: A request was not answered in full.
    """
    with _CardPeak() as card, LocalEngine(options) as engine:
        info = engine.start()
        loaded_mib = engine.stats().peak_rss_mib
        random = Random(1)
        requests = [_filling(random, info, _NEW_TOKENS * index, index) for index in range(1, options.max_sequences + 1)]
        streams = [engine.generate(request) for request in requests]
        ends = [list(stream)[-1] for stream in streams]
        if not all(isinstance(end, Finished) and end.reason == "length" for end in ends):
            raise RuntimeError("an answer was not given in full")
        return Measured(loaded_mib, engine.stats().peak_rss_mib, card.mib)


def _filling(random: Random, info: ModelInfo, new_tokens: int, seed: int) -> GenerateRequest:
    """A request that fills one context; its beginning is no other's, whose pages it would share."""
    return GenerateRequest(
        raw_token_ids=[random.randrange(3, info.vocab_size) for _ in range(info.context_tokens - new_tokens)],
        max_tokens=new_tokens,
        ignore_eos=True,
        sampling=SamplingOptions(temperature=0.8, top_p=0.95, seed=seed),
    )


def build_peak_mib(options: LoadOptions) -> float | None:
    """Peak of the process that converts and compiles; None where the cache had everything.

    Raises:
        RuntimeError: It could not prepare the model.
    """
    import psutil

    assert options.quant != "auto"
    assert options.cache_dir is not None
    request = BuildRequest(str(model_folder(options.model)), options.quant, options.target, options.cache_dir)
    environment = {name: value for name, value in python_environment().items() if name != "TVM_USE_RUNTIME_LIB"}
    process = subprocess.Popen(
        python_command("local_runtime.build"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=environment,
    )
    finished = threading.Event()
    peak_bytes = 0

    def watch() -> None:
        nonlocal peak_bytes
        seen = psutil.Process(process.pid)
        while not finished.wait(_POLL_S):
            try:
                peak_bytes = max(peak_bytes, seen.memory_info().rss)
            except psutil.NoSuchProcess:
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    told, _ = process.communicate(json.dumps(asdict(request)))
    finished.set()
    watcher.join()
    if '"done"' not in told:
        raise RuntimeError(f"the model could not be prepared: {told.splitlines()[-1:]}")
    return peak_bytes / MIB if '"stage": "convert"' in told or '"stage": "compile"' in told else None


def run_case(name: str, quant: Any, context_tokens: int, sequences: int, target: str, folder: Path) -> dict[str, Any]:
    """One line of the result."""
    model = str(random_checkpoint(folder / name, GEOMETRIES[name])) if name in GEOMETRIES else name
    options = LoadOptions(
        model,
        quant=quant,
        target=target,
        context_tokens=context_tokens,
        max_sequences=sequences,
        cache_dir=str(folder / "cache"),
    )
    build_mib = build_peak_mib(options)
    expected, found = predicted(options, target), measured(options)
    record: dict[str, Any] = {
        "model": name,
        "quant": quant,
        "context_tokens": context_tokens,
        "sequences": sequences,
        "loaded": _compared(expected.loading_peak_bytes, found.loaded_mib),
        "peak": _compared(expected.peak_bytes, found.peak_mib),
    }
    if expected.card_bytes:
        of_context_bytes = expected.card_context_bytes
        record["card"] = _compared(expected.card_bytes, found.card_mib)
        record["card_context_mib"] = round(of_context_bytes / MIB, 1)
        record["card_without_context"] = _compared(
            expected.card_bytes - of_context_bytes, found.card_mib - of_context_bytes / MIB
        )
    if build_mib is not None:
        record["build"] = {"bound_mib": expected.build_bytes / MIB, "measured_mib": round(build_mib, 1)}
    return record


def _compared(predicted_bytes: float, measured_mib: float) -> dict[str, float]:
    predicted_mib = predicted_bytes / MIB
    return {
        "predicted_mib": round(predicted_mib, 1),
        "measured_mib": round(measured_mib, 1),
        "error_percent": round(100 * (predicted_mib / measured_mib - 1), 2),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache-dir", help="where the models and what is made of them stay")
    parser.add_argument("--target", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--only", help="models to run, such as 10M,50M; all by default")
    arguments = parser.parse_args()
    names = arguments.only.split(",") if arguments.only else None
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(arguments.cache_dir or scratch)
        cases = []
        for case in SPREAD:
            if names is None or case[0] in names:
                cases.append(run_case(*case, arguments.target, folder))
                print(json.dumps(cases[-1]), file=sys.stderr, flush=True)
    which = "card" if arguments.target == "cuda" else "peak"
    worst = max(abs(case[which]["error_percent"]) for case in cases)
    print(
        json.dumps(
            {"benchmark": "memory_plan", "target": arguments.target, "worst_error_percent": worst, "cases": cases}
        )
    )


if __name__ == "__main__":
    main()
