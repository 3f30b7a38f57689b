"""Use cases: what the tools and the terminal do, in one place each."""
