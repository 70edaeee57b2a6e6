"""The connection to a server: sockets, handshake, retries, and its errors."""
