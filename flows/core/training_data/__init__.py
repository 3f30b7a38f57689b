"""The rows that a training would learn from: a bounded sample, and what is wrong with it."""
