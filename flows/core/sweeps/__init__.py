"""Read, check and search sweeps, without Prefect or Oumi."""
