"""Parts of tests/limits.py that have a file of their own."""
