"""Language models: one interface, an HTTP client, an in-process engine, batch files and the journal of answers."""
