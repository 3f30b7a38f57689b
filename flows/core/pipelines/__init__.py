"""Read, check and resolve pipelines, without Prefect or Oumi."""
