"""A pack is pack.toml and safetensors: found, verified, loaded, imported."""
