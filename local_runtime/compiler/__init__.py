"""From a model's configuration to an artifact that runs without a compiler on the machine."""
