"""Use cases of pipelines and sweeps."""
