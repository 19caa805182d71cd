"""Published versions: shards, index, statistics, numbering, resharding."""
