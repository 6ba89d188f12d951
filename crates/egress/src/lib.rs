//! stockade-egress
