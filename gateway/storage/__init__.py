"""The link to the storage worker."""
