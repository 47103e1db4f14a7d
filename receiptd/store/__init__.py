"""The database: schema, merge, and the writer that makes a batch durable. It knows no transport
and no provider."""
