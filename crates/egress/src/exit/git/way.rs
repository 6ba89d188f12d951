//! The way of a request to its origin, as git needs it: that of every other request.

pub(crate) use crate::exit::origin::{Body, BodyError, Origin, full};
