"""Terminals: the console, safe text, wrapping, Ctrl-C."""
