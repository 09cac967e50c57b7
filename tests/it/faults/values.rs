//! Values that the two databases hold differently: numbers, times, Unicode, nulls in filters.
