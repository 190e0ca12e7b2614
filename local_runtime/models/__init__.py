"""Model architectures, one file each, named by the `model_type` of a Hugging Face `config.json`."""
