//! Work that can't go on: seen, backed off, alone.
