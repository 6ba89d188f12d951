//! stockade-llm
