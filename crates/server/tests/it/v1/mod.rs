//! One module for each resource, as in the addresses.

mod approvals;
mod classes;
mod connections;
mod environments;
mod export;
mod gateway;
mod policy;
mod projects;
mod runner;
mod runs;
mod tasks;
mod tokens;
