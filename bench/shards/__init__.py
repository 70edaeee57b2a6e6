"""What a message costs with several storage workers, measured; and what that means for many."""
