"""Shipped model configs, as JSON; see `training/README.md`."""
