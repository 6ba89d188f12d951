//! stockade-testkit
