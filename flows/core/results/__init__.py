"""What came out of a job: its checkpoints, models, scores and files, wherever they are."""
