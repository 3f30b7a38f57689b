"""What trainings learn: their metrics."""
