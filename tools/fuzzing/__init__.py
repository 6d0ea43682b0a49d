"""Cases for tools/fuzz.py."""
