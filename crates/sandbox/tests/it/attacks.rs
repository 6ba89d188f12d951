//! The attacks of `stockade_testkit::attacks` on what this driver makes, and the page of the manual that says what becomes of them.
//!
//! Those on the way out run in a network namespace of their own, in which a hostile world listens.

use stockade_sandbox::{Class, Driver, EnvironmentSpec};
use stockade_testkit::attacks::{self, choices, site::Site};

use crate::bed::{Bed, again_in_the_world, fresh_id, in_the_world, is_root, small, spec};

crate::both!(every_attack_comes_to_its_end, every_attack_comes_to_its_end_whatever_the_inside);

async fn every_attack_comes_to_its_end(bed: &Bed) {
    let (id, _) = bed.make(small()).await;
    let wrong = attacks::on_the_box(&bed.driver, id).await.unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

async fn every_attack_comes_to_its_end_whatever_the_inside(bed: &Bed) {
    for inside in choices::TRIED {
        let class = Class { disk_bytes: 256 << 20, memory_bytes: 256 << 20, ..small() };
        let one = EnvironmentSpec { inside, ..spec(fresh_id(), class) };
        bed.driver.create(&one).await.unwrap();
        let wrong = attacks::on_the_box_of(&bed.driver, one.id, inside, is_root()).await.unwrap();
        assert!(wrong.is_empty(), "{inside:?}:\n{}", wrong.join("\n\n"));
        bed.driver.delete(one.id).await.unwrap();
    }
}

/// Makes tests that run in the world of the attacks, as root and as a user.
macro_rules! in_the_world {
    ($($name:ident),* $(,)?) => {
        mod out_as_root {
            $(#[test]
            fn $name() {
                super::entered(concat!(module_path!(), "::", stringify!($name)), false, super::$name);
            })*
        }
        mod out_as_user {
            $(#[test]
            fn $name() {
                super::entered(concat!(module_path!(), "::", stringify!($name)), true, super::$name);
            })*
        }
    };
}

in_the_world!(every_attack_on_the_way_out_comes_to_its_end, without_rules_that_lead_streams_the_way_out_is_the_same);

/// Whoever is no root makes the world in a namespace of its own, and is the user.
fn entered<F: Future<Output = ()>>(test: &str, as_user: bool, scene: impl FnOnce() -> F) {
    if in_the_world() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(scene());
    } else if is_root() || as_user {
        again_in_the_world(test, as_user);
    }
}

#[expect(clippy::print_stdout, reason = "what the flood took is read from the test's output")]
async fn every_attack_on_the_way_out_comes_to_its_end() {
    // Where nobody asks for more, a process has a thousand descriptors: a runner asks.
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let all = rustix::process::Rlimit { current: most, maximum: most };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, all).unwrap();
    let bed = Bed::new();
    let site = Site::new(bed.dir.path()).await.unwrap();
    let class = Class { open_files: 4_096, processes: 512, memory_bytes: 512 << 20, ..small() };
    let (one, other) = (site.spec(fresh_id(), class.clone()), site.spec(fresh_id(), class));
    let _guests = (bed.make_as(one.clone()).await, bed.make_as(other.clone()).await);
    let (driver, pair) = (&bed.driver, (one.id, other.id));
    let wrong = match std::env::var("STOCKADE_ATTACK") {
        Ok(row) => attacks::on_the_way_out(driver, one.id, &site, Some(&row)).await.unwrap(),
        Err(_) => {
            let (wrong, flood) = attacks::all_on_the_way_out(driver, pair, &site, &[bed.dir.path()]).await.unwrap();
            println!("measured {flood:?}");
            wrong
        }
    };
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

async fn without_rules_that_lead_streams_the_way_out_is_the_same() {
    let bed = Bed::new();
    let site = Site::new(bed.dir.path()).await.unwrap();
    let one = site.spec(fresh_id(), Class { open_files: 4_096, processes: 512, memory_bytes: 512 << 20, ..small() });
    let _guest = bed.make_as(one.clone()).await;
    // Doors at every address for some ports: 80 and 443 are of them, to others nothing goes.
    let driver = bed.driver_unled();
    for row in ["N8", "N10", "N11", "N12", "N13", "S1", "S3"] {
        let wrong = attacks::on_the_way_out(&driver, one.id, &site, Some(row)).await.unwrap();
        assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    }
}

#[test]
fn the_published_table_is_that_of_the_list() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/attacks.md");
    let wanted = attacks::page::page();
    if std::env::var_os("STOCKADE_WRITE_ATTACKS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let published = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        published == wanted,
        "docs/attacks.md is not what the list says: run this test with STOCKADE_WRITE_ATTACKS=1 and look at the difference"
    );
}
