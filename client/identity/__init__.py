"""Who the user is: keys, files, passphrase, registration."""
