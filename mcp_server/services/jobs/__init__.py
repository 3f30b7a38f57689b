"""Use cases of single jobs."""
