//! stockade-runner
