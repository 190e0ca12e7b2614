"""TVM and its ffi are pinned together for a reason; these tests fail with the reason when somebody moves one of them."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
EXPLANATION = (
    "Schedule.tensorize crashed: apache-tvm 0.27.0.post1 segfaults there with apache-tvm-ffi 0.1.15.post1 and later, which "
    "also breaks dlight's fp16 tensor-core schedule. Keep apache-tvm-ffi==0.1.14.post1 until a pair of releases passes this test."
)

# As small as it can be: dlight's tensor-core schedules would first parse all of TVM's intrinsics, half a minute.
TENSORIZE = """import tvm
from tvm.s_tir import Schedule, TensorIntrin
from tvm.script import tirx as T

@T.prim_func(s_tir=True)
def four_copied(a: T.handle, b: T.handle) -> None:
    x = T.match_buffer(a, (4,), "float32", offset_factor=1)
    y = T.match_buffer(b, (4,), "float32", offset_factor=1)
    with T.sblock("root"):
        T.reads(x[0:4])
        T.writes(y[0:4])
        for i in T.serial(4):
            with T.sblock("copy"):
                v = T.axis.remap("S", [i])
                y[v] = x[v]


@T.prim_func(s_tir=True)
def four_at_once(a: T.handle, b: T.handle) -> None:
    x = T.match_buffer(a, (4,), "float32", offset_factor=1)
    y = T.match_buffer(b, (4,), "float32", offset_factor=1)
    with T.sblock("root"):
        T.reads(x[0:4])
        T.writes(y[0:4])
        y[T.ramp(0, 1, 4)] = x[T.ramp(0, 1, 4)]


@T.prim_func(s_tir=True)
def copy(x: T.Buffer((32,), "float32"), y: T.Buffer((32,), "float32")) -> None:
    for i in T.serial(32):
        with T.sblock("copy"):
            v = T.axis.remap("S", [i])
            y[v] = x[v]

TensorIntrin.register("four", four_copied, four_at_once)
schedule = Schedule(tvm.IRModule({"main": copy}))
outer, inner = schedule.split(schedule.get_loops(schedule.get_sblock("copy"))[0], [8, 4])
schedule.tensorize(inner, "four")
print("tensorized" if "copy_o" in schedule.mod.script() else schedule.mod.script())
"""


def test_tensorize_survives(tmp_path: Path) -> None:
    program = tmp_path / "tensorize.py"  # TVM's script parser reads the source of its functions from a file
    program.write_text(TENSORIZE, encoding="utf-8")
    result = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, f"{EXPLANATION}\n{result.stderr[-2000:]}"
    assert result.stdout.split() == ["tensorized"]


def test_the_installed_versions_are_the_pinned_ones() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = [requirement for requirement in project["dependencies"] if requirement.startswith("apache-tvm")]
    assert len(pins) == 3
    for pin in pins:
        name, pinned = pin.split("==")
        assert version(name) == pinned, EXPLANATION
