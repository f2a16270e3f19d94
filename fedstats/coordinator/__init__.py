"""The party in the middle: mailboxes, and the sum of ciphertexts it cannot read."""
