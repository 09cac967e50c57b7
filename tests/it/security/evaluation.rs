//! What a user writes and we evaluate: templates, CEL, JSON Schema, YAML, JSON, CSV.
