"""A window on the data: a local page in which a version is looked at, searched and mended (``clipcurate open``)."""
