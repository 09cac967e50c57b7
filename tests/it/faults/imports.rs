//! Files: columns, delimiters, encodings, types, bad fields, opt-outs.
