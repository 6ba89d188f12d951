//! The production [`World`]: the system's clock and the cryptographic library's random bytes.

use std::time::{SystemTime, UNIX_EPOCH};

use stockade_domain::{Timestamp, World};

/// The real world. The only place in Stockade that reads the system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemWorld;

impl World for SystemWorld {
    #[expect(clippy::disallowed_methods, reason = "this is the one place where the clock is read")]
    fn now(&self) -> Timestamp {
        let micros = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros());
        Timestamp(i64::try_from(micros).unwrap_or(i64::MAX))
    }

    fn random(&self, out: &mut [u8]) {
        if aws_lc_rs::rand::fill(out).is_err() {
            // A system without randomness can make no key and no identifier. Going on would be worse
            // than ending here, and a panic might be caught by somebody who then goes on.
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_and_bytes_differ() {
        let world = SystemWorld;
        assert!(world.now() >= Timestamp(1_700_000_000_000_000));
        let (mut a, mut b) = ([0; 32], [0; 32]);
        world.random(&mut a);
        world.random(&mut b);
        assert_ne!(a, b);
    }
}
