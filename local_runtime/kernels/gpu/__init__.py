"""Operators for GPUs, written as tensor expressions that TVM's ``dlight`` rules schedule for the device at hand."""
