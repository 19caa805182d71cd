"""What the sources share: names and listings of files, rows of tables, headers of tars."""
