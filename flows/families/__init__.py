"""Jobs made of jobs: pipelines and sweeps."""
