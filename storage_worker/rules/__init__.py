"""What each operation decides."""
