"""The client protocol, pure: bytes <-> values. No socket, no clock, no log."""
