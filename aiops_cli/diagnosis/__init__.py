"""The ladder from signature to diagnosis, cheapest rung first; it fails closed."""
