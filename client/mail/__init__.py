"""Messages out and in."""
