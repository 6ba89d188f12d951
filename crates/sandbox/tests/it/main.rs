//! The namespace driver against a workload that tries everything.
//!
//! Each scenario runs twice where it can: as root, and as a user without any right. Run by root, the second form
//! starts this program again under another user id.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod attacks;
mod bed;
mod doors;
mod escape;
mod executions;
mod harden;
mod inside;
mod janitor;
mod life;
mod limits;
mod trust;

/// Makes `as_root` and `as_user` tests of scenarios.
macro_rules! both {
    ($($name:ident),* $(,)?) => {
        mod as_root {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if $crate::bed::is_root() {
                    super::$name(&$crate::bed::Bed::new()).await;
                }
            })*
        }
        mod as_user {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if $crate::bed::is_root() {
                    $crate::bed::again_as_user(concat!(module_path!(), "::", stringify!($name)));
                } else {
                    super::$name(&$crate::bed::Bed::new()).await;
                }
            })*
        }
    };
}
pub(crate) use both;
