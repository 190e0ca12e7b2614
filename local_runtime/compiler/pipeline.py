"""The passes from a model's Relax module to the virtual machine's bytecode: a list of named steps, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from local_runtime.tvm_compat import dlight, relax

__all__ = ["Step", "relax_steps"]

transform = relax.transform


@dataclass(frozen=True)
class Step:
    """One transformation of the module.

    Attributes:
        reason: What it buys, in a few words; shown as progress.
        compiler_pass: The TVM pass.
    """

    reason: str
    compiler_pass: Any


def relax_steps(kind: str) -> list[Step]:
    """The steps for a device kind, in order.

    On a CPU every heavy operator arrives as one of our own scheduled kernels, so nothing is fused or scheduled here. On a GPU the
    operators arrive as Relax operators and are fused with what surrounds them before TVM's ``dlight`` rules schedule them.
    """
    fuse_and_schedule = [
        Step("let a product read its transposed weight in place", transform.FuseTransposeMatmul()),
        Step("turn operators into loops", transform.LegalizeOps()),
        Step("learn which loops may be fused", transform.AnnotateTIROpPattern()),
        Step("fold constants", transform.FoldConstant()),
        Step("choose what runs as one kernel", transform.FuseOps()),
        Step("merge the loops of each kernel", transform.FuseTIR()),
        Step("drop what was fused away", transform.DeadCodeElimination()),
        Step("make reshapes views again", transform.RewriteDataflowReshape()),
        Step(
            "bind loops to the device's threads",
            dlight.ApplyDefaultSchedule(
                dlight.gpu.Matmul(),
                dlight.gpu.GEMV(),
                dlight.gpu.Reduction(),
                dlight.gpu.GeneralReduction(),
                dlight.gpu.Fallback(),
            ),
        ),
    ]
    keep_reshapes = [Step("turn operators into loops, but leave reshapes views", _legalize_all_but_reshape())]
    return [
        *(keep_reshapes if kind == "cpu" else fuse_and_schedule),
        Step("order the dataflow", transform.ToNonDataflow()),
        Step("forget purity, which only planning needed", transform.RemovePurityChecking()),
        Step("give every kernel its output buffer", transform.CallTIRRewrite()),
        Step("plan buffers so that they are reused", transform.StaticPlanBlockMemory()),
        Step("lower allocations", transform.LowerAllocTensor()),
        Step("free values after their last use", transform.KillAfterLastUse()),
        Step("bind the runtime's built-in functions", transform.LowerRuntimeBuiltin()),
        Step("compute scalar values", transform.ComputePrimValue()),
        Step("compute shapes at run time", transform.VMShapeLower()),
        Step("name the entry points", transform.AttachGlobalSymbol()),
    ]


def _legalize_all_but_reshape() -> Any:
    return transform.LegalizeOps(skip_ops=["relax.reshape"])
