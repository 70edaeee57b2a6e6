"""Storage engines: what keeps the records of a turn durably."""
