//! A step that ends the process is set aside; and what else was wrong without an attack.
