//! How many descriptors this process may hold, and what of them one environment may take.
//!
//! Owns that a runner has as many as its machine gives (a shell gives a thousand, of which it may take more), and that no environment's way out can
//! use up those of the others and of the runner's own files. It refuses to fail: with few descriptors there are few connections, which it says.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A connection takes one descriptor for each of its ends.
const EACH: u64 = 2;
/// One environment may take at most this part of all descriptors.
const PART: u64 = 4;
/// So many connections an environment has however few descriptors there are.
const LEAST: usize = 16;

/// Takes as many as this process may have, and gives how many those are.
pub fn take() -> u64 {
    let had = getrlimit(Resource::Nofile);
    let most = had.maximum.unwrap_or(u64::MAX);
    // Who may not is left with what there is.
    let raised = setrlimit(Resource::Nofile, Rlimit { current: had.maximum, maximum: had.maximum });
    if raised.is_ok() { most } else { had.current.unwrap_or(most) }
}

/// How many connections one environment may have at once, of so many that were configured.
pub fn connections(configured: usize, descriptors: u64) -> usize {
    let may = usize::try_from(descriptors / PART / EACH).unwrap_or(usize::MAX).max(LEAST);
    if may < configured {
        tracing::warn!(
            descriptors,
            may,
            "this process may hold {descriptors} descriptors: an environment has {may} connections at once, not {configured}; raise the limit of open files (`ulimit -Hn`, `LimitNOFILE=`)"
        );
    }
    configured.min(may)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n29_one_environment_leaves_three_quarters_of_all_descriptors_to_the_others() {
        for (descriptors, configured, may) in [
            (1_024, 1_024, 128),
            (4_096, 1_024, 512),
            (8_192, 1_024, 1_024),
            (1 << 20, 4_096, 4_096),
            (64, 1_024, 16),
            (u64::MAX, 9, 9),
        ] {
            assert_eq!(connections(configured, descriptors), may, "{configured} of {descriptors}");
        }
    }

    #[test]
    fn as_many_are_taken_as_there_may_be() {
        let taken = take();
        let now = getrlimit(Resource::Nofile);
        assert_eq!(now.current, now.maximum);
        assert_eq!(now.maximum.unwrap_or(u64::MAX), taken);
    }
}
