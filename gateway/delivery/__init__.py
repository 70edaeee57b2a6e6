"""Evidence that a client has received what it was sent."""
