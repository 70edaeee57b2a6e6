"""The worker's state in memory."""
