"""One client's connection: bytes, order of requests, limits, and its end."""
