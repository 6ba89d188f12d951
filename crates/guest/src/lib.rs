//! stockade-guest
