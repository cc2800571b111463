"""Measurements that `make bench` prints; run one with `python -m bench.<name>`."""
