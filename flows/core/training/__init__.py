"""The training record of a job: the numbers its trainings logged, and what happened in them."""
