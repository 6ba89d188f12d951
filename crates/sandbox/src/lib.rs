//! stockade-sandbox
