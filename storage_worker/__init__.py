"""The storage worker: owns users and mail, one writer, one truth."""
