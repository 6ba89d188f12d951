//! stockade-gateway
