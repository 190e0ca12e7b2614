"""Compute the reference numbers of the parity tests with ``transformers`` and write them to a small file.

Run it in an environment that has ``torch`` and ``transformers`` (TVM isn't needed)::

    python tools/make_parity_reference.py                      # rewrite tests/local_runtime/fixtures/parity.npz
    python tools/make_parity_reference.py --check              # compare with the stored file instead of writing
    python tools/make_parity_reference.py --output other.npz

For every case of ``tests/local_runtime/parity_cases.py`` it writes the random checkpoint, loads it with
``AutoModelForCausalLM`` in float32 with the plain ("eager") attention, and records the logits after the prompt, the
logits of 64 decode steps with given tokens, and the 128 tokens of a greedy answer.
"""

# ruff: noqa: T201  (a script: what it prints is its interface)

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.local_runtime.checkpoints import write_checkpoint  # noqa: E402  (needs the path above)
from tests.local_runtime.parity_cases import (  # noqa: E402
    DECODE_COLUMN_STRIDE,
    FIXTURE,
    GREEDY_TOKENS,
    PARITY_CASES,
    ParityCase,
)

# Closer than this, another order of float32 additions could change which token is the best one.
MIN_GREEDY_MARGIN = 1e-3
# Two versions of the library, or two processors, agree far better than this on the stored logits.
CHECK_TOLERANCE = 2e-5


def compute_reference(case: ParityCase, folder: Path) -> dict[str, np.ndarray]:
    """Run one case through ``transformers``.

    Args:
        case: The model, its seed and its tokens.
        folder: An empty folder for the checkpoint.

    Returns:
        The arrays that `ParityReference` describes, by name.

    Raises:
        SystemExit: Somewhere in the greedy answer the best two logits are too close for a fair comparison.
    """
    write_checkpoint(folder, case.config, seed=case.seed)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    model.eval()

    with torch.inference_mode():
        prompt = torch.tensor([case.prompt_ids()])
        output = model(prompt, use_cache=True)
        prefill_logits = output.logits[0, -1]
        decode_logits = []
        for token_id in case.forced_ids():
            output = model(torch.tensor([[token_id]]), past_key_values=output.past_key_values, use_cache=True)
            decode_logits.append(output.logits[0, -1])

        output = model(prompt, use_cache=True)
        greedy_ids: list[int] = []
        for step in range(GREEDY_TOKENS):
            best, second = output.logits[0, -1].topk(2).values.tolist()
            if best - second < MIN_GREEDY_MARGIN:
                raise SystemExit(f"{case.name}: the best two tokens of step {step} are too close; choose another seed.")
            greedy_ids.append(int(output.logits[0, -1].argmax()))
            output = model(torch.tensor([greedy_ids[-1:]]), past_key_values=output.past_key_values, use_cache=True)

    return {
        "prefill_logits": prefill_logits.numpy(),
        "decode_logits": torch.stack(decode_logits).numpy()[:, ::DECODE_COLUMN_STRIDE],
        "greedy_ids": np.array(greedy_ids, dtype=np.int16),
        "inverse_frequencies": model.model.rotary_emb.inv_freq.numpy(),
    }


def compute_all() -> dict[str, np.ndarray]:
    """All cases' arrays by ``case/array`` name, and ``about``: versions and weight hashes as JSON."""
    arrays: dict[str, np.ndarray] = {}
    for case in PARITY_CASES:
        with tempfile.TemporaryDirectory() as folder:
            reference = compute_reference(case, Path(folder))
        arrays.update({f"{case.name}/{key}": values for key, values in reference.items()})
        print(f"{case.name}: {len(set(reference['greedy_ids'].tolist()))} different greedy tokens", file=sys.stderr)
    about = {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "weights_sha256": {case.name: case.weights_sha256() for case in PARITY_CASES},
    }
    arrays["about"] = np.array(json.dumps(about))
    return arrays


def check(arrays: dict[str, np.ndarray], stored_file: Path) -> int:
    """Compare fresh numbers with a stored file; prints one line per difference and returns the exit code."""
    failures = 0
    with np.load(stored_file, allow_pickle=False) as stored:
        for name, values in arrays.items():
            if name == "about":
                continue
            if name not in stored:
                print(f"{name}: not in {stored_file}")
                failures += 1
            elif np.abs(stored[name].astype(np.float64) - values).max() > CHECK_TOLERANCE:
                print(f"{name}: differs by {np.abs(stored[name].astype(np.float64) - values).max():.3g}")
                failures += 1
    print("the stored reference agrees" if not failures else f"{failures} arrays differ")
    return 1 if failures else 0


def main() -> int:
    """Parse the command line, compute, then write or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=FIXTURE, help="file to write, or to compare with (--check)")
    parser.add_argument("--check", action="store_true", help="compare with the file instead of writing it")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    arrays = compute_all()
    if arguments.check:
        return check(arrays, arguments.output)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(arguments.output, allow_pickle=False, **arrays)
    print(f"wrote {arguments.output} ({arguments.output.stat().st_size / 1024:.0f} KiB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
