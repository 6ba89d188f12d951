//! The launcher: see its head when it is filled.
