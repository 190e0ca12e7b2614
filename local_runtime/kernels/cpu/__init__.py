"""Kernels for CPUs, written in TIR and compiled by LLVM for the instruction set that is there."""
