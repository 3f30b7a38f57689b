"""Check a launch by reading files only; light enough for the server and the worker."""
