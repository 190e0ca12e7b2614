"""Tensor programs written for the targets, one package per kind of device."""
