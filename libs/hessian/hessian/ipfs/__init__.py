"""Content by digest: what is not on chain is here, and every byte is checked against the digest that is."""
