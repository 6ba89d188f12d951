//! Errors with what is behind them, on one line.

use std::error::Error;

/// An error with everything below it that it does not say itself, on one line: for logs and people.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{said}")]
    struct Saying {
        said: &'static str,
        source: Option<Box<Saying>>,
    }

    #[test]
    fn what_is_behind_is_said_once() {
        let deep = Saying { said: "the disk is full", source: None };
        let mid = Saying { said: "it was not written: the disk is full", source: Some(Box::new(deep)) };
        let whole = Saying { said: "nothing was kept", source: Some(Box::new(mid)) };
        assert_eq!(chain(&whole), "nothing was kept: it was not written: the disk is full");
    }
}
