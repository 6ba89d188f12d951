//! stockade-ledger
