//! stockade-store
