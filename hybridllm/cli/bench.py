"""``hybridllm bench``: how fast the engine is here, measured on the engine itself."""

from __future__ import annotations

import json
import platform
import random
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Annotated

import typer

from hybridllm.cli import options  # noqa: TC001 - typer reads the annotations at run time
from hybridllm.cli.app import app, command
from hybridllm.cli.engine_options import engine_options
from hybridllm.cli.mistakes import CommandError
from hybridllm.cli.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from local_runtime.client import LocalEngine
    from local_runtime.options import LoadOptions, ModelInfo

__all__ = ["BenchReport", "Spread", "measure"]


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over several runs: its median and how far the runs lie apart.

    Attributes:
        median: The middle run.
        min: The lowest run.
        max: The highest run.
        runs: How many.
    """

    median: float
    min: float
    max: float
    runs: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Sum up at least one value."""
        return cls(round(median(values), 4), round(min(values), 4), round(max(values), 4), len(values))


@dataclass(frozen=True, slots=True)
class BenchReport:
    """What was measured.

    Attributes:
        model: The model's name.
        model_type: Its architecture.
        parameters: Its parameters.
        quant: Weight format in use.
        target: TVM target.
        device: The device in words.
        threads: Processor threads that were asked for; None if the engine chose.
        prompt_tokens: Length of every prompt.
        new_tokens: Tokens of every answer; an end-of-sequence token does not end it.
        compiled: True if the very first load had to compile; that load is not among ``load_s``.
        first_load_s: Seconds of the very first load.
        load_s: Seconds from starting the engine's process until it could answer, everything being in the cache.
        ttft_ms: Milliseconds from the request to its first token, inside the engine.
        prefill_tokens_per_s: Prompt tokens per second.
        decode_tokens_per_s: Tokens per second after the first one.
        peak_rss_mib: Highest resident memory of the engine's process over all runs.
        platform: Operating system and processor architecture.
        versions: Versions of this package and of TVM.
    """

    model: str
    model_type: str
    parameters: int
    quant: str
    target: str
    device: str
    threads: int | None
    prompt_tokens: int
    new_tokens: int
    compiled: bool
    first_load_s: float
    load_s: Spread
    ttft_ms: Spread
    prefill_tokens_per_s: Spread
    decode_tokens_per_s: Spread
    peak_rss_mib: float
    platform: str
    versions: dict[str, str]


@command(app, "bench", "Measure the engine's speed and memory.")
def bench(
    model: options.Model = None,
    quant: options.Quant = None,
    target: options.Target = None,
    threads: options.Threads = None,
    prompt_tokens: Annotated[int, typer.Option(min=1, metavar="N", help="Length of the prompt.")] = 128,
    new_tokens: Annotated[int, typer.Option(min=2, metavar="N", help="Tokens to generate.")] = 64,
    runs: Annotated[int, typer.Option(min=1, metavar="N", help="Answers to measure, after one to warm up.")] = 5,
    loads: Annotated[int, typer.Option(min=1, metavar="N", help="Starts of the engine to measure.")] = 3,
    cache_dir: options.CacheDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    plain: options.Plain = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure loading, prefill, decoding and memory of the engine: medians with their spread.

    \b
    Examples:
      hybridllm bench
      hybridllm bench --prompt-tokens 512 --new-tokens 128 --threads 2 --json
    """
    from hybridllm.cli.progress import LoadProgress

    terminal = Terminal(plain=plain, quiet=quiet)
    wanted = engine_options(model=model, quant=quant, target=target, threads=threads, cache_dir=cache_dir)
    with LoadProgress(terminal) as progress:
        report = measure(
            wanted,
            prompt_tokens=prompt_tokens,
            new_tokens=new_tokens,
            runs=runs,
            loads=loads,
            on_progress=progress,
            say=lambda text: _say(terminal, text),
        )
    if as_json:
        terminal.line(json.dumps(asdict(report)))
    else:
        _print(terminal, report)


def measure(
    wanted: LoadOptions,
    *,
    prompt_tokens: int,
    new_tokens: int,
    runs: int,
    loads: int,
    on_progress: Callable[..., None] | None = None,
    say: Callable[[str], None] = lambda _text: None,
) -> BenchReport:
    """Measure the real engine in its own process.

    Args:
        wanted: What to load.
        prompt_tokens: Length of every prompt; the tokens are drawn anew for every run, so that nothing is reused.
        new_tokens: Tokens of every answer, drawn greedily.
        runs: Answers to measure; one more warms up and isn't counted.
        loads: Starts to measure; one more fills the cache and isn't counted.
        on_progress: Told how far loading is.
        say: Told in words what is measured now.

    Raises:
        LocalRuntimeError: The model cannot be loaded or run.
        CommandError: Prompt and answer do not fit the model's context.
    """
    from local_runtime.client import LocalEngine

    say("Filling the cache")
    with LocalEngine(wanted, on_progress=on_progress) as engine:
        first = engine.start()
    loaded_in_s = []
    for index in range(loads - 1):
        say(f"Start {index + 1} of {loads}")
        with LocalEngine(wanted, on_progress=on_progress) as engine:
            loaded_in_s.append(engine.start().load_s)
    say(f"Start {loads} of {loads}")
    with LocalEngine(wanted, on_progress=on_progress) as engine:
        info = engine.start()
        loaded_in_s.append(info.load_s)
        _check_room(info, prompt_tokens, new_tokens)
        _run_once(engine, info, prompt_tokens, new_tokens, seed=0)
        results = []
        for index in range(runs):
            say(f"Answer {index + 1} of {runs}")
            results.append(_run_once(engine, info, prompt_tokens, new_tokens, seed=index + 1))
        peak_rss_mib = engine.stats().peak_rss_mib
    return BenchReport(
        model=info.name,
        model_type=info.model_type,
        parameters=info.parameters,
        quant=info.quant,
        target=info.target,
        device=info.device,
        threads=wanted.threads,
        prompt_tokens=prompt_tokens,
        new_tokens=new_tokens,
        compiled=first.compiled,
        first_load_s=round(first.load_s, 4),
        load_s=Spread.of(loaded_in_s),
        ttft_ms=Spread.of([run.ttft_ms for run in results]),
        prefill_tokens_per_s=Spread.of([run.prefill_tokens_per_s for run in results]),
        decode_tokens_per_s=Spread.of([run.decode_tokens_per_s for run in results]),
        peak_rss_mib=round(peak_rss_mib, 1),
        platform=f"{platform.system()} {platform.machine()}",
        versions=_versions(),
    )


@dataclass(frozen=True, slots=True)
class _Run:
    ttft_ms: float
    prefill_tokens_per_s: float
    decode_tokens_per_s: float


def _check_room(info: ModelInfo, prompt_tokens: int, new_tokens: int) -> None:
    if prompt_tokens + new_tokens > info.context_tokens:
        raise CommandError(
            f"--prompt-tokens {prompt_tokens} and --new-tokens {new_tokens} do not fit the context of "
            f"{info.context_tokens} tokens. Give smaller ones."
        )


def _run_once(engine: LocalEngine, info: ModelInfo, prompt_tokens: int, new_tokens: int, *, seed: int) -> _Run:
    from local_runtime.events import Failed, Finished
    from local_runtime.options import GenerateRequest, SamplingOptions

    draw = random.Random(seed)
    request = GenerateRequest(
        raw_token_ids=[draw.randrange(info.vocab_size) for _ in range(prompt_tokens)],
        sampling=SamplingOptions(temperature=0.0),
        max_tokens=new_tokens,
        ignore_eos=True,
    )
    finished = None
    for event in engine.generate(request):
        if isinstance(event, Failed):
            raise event.error
        if isinstance(event, Finished):
            finished = event
    assert finished is not None  # the last event of every request
    timings, generated = finished.timings, finished.usage.completion_tokens
    return _Run(
        ttft_ms=timings.ttft_s * 1000,
        prefill_tokens_per_s=prompt_tokens / timings.prefill_s,
        decode_tokens_per_s=(generated - 1) / timings.decode_s,
    )


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    from hybridllm import __version__

    return {"hybridllm": __version__, **{name: version(name) for name in ("apache-tvm", "apache-tvm-ffi")}}


def _say(terminal: Terminal, text: str) -> None:
    if not terminal.fancy_progress:  # a terminal shows the engine's own progress
        terminal.note(f"{text}...")


def _print(terminal: Terminal, report: BenchReport) -> None:
    terminal.line(
        f"{report.model}, {report.parameters / 1e6:.1f}M parameters, {report.quant}, {report.device}; prompt of "
        f"{report.prompt_tokens} tokens, {report.new_tokens} generated, {report.ttft_ms.runs} runs",
        "bold",
    )
    rows = (
        ("Load", report.load_s, "s", 2),
        ("First token", report.ttft_ms, "ms", 1),
        ("Prefill", report.prefill_tokens_per_s, "tokens/s", 0),
        ("Decode", report.decode_tokens_per_s, "tokens/s", 0),
    )
    for name, spread, unit, digits in rows:
        terminal.line(
            f"{name + ':':<13}{spread.median:.{digits}f} {unit} ({spread.min:.{digits}f} to {spread.max:.{digits}f})"
        )
    terminal.line(f"{'Peak memory:':<13}{report.peak_rss_mib:.0f} MiB")
