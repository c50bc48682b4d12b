"""All SQL: statements by theme, versioned functions, migrations, and the schema that these make."""
