"""The command `messageu`."""
