//! stockade-server
