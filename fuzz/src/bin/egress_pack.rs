//! Packs. The first byte chooses how the rest is cut and how objects are named. A wrong sum at the end is made right, so
//! that what is behind it is reached.
#![no_main]

use std::ops::ControlFlow;

use stockade_egress::git::object::EntryKind;
use stockade_egress::git::pack::{Limits, Pack, PackError, PackReader};
use stockade_egress::git::review::{Globs, Nothing, PathRules, review};
use stockade_egress::git::{Format, ObjectId, checksum};

const LIMITS: Limits = Limits {
    pack_bytes: 1 << 20,
    objects: 10_000,
    object_bytes: 1 << 20,
    meta_bytes: 1 << 16,
    kept_bytes: 1 << 20,
    total_bytes: 16 << 20,
    ratio: 200,
    chain: 64,
    working_bytes: 4 << 20,
    thin: false,
};

fn read(format: Format, bytes: &[u8], step: usize, limits: Limits) -> Result<Pack, PackError> {
    let mut reader = PackReader::new(format, limits);
    bytes.chunks(step).try_for_each(|piece| reader.push(piece))?;
    reader.finish()
}

fn names(pack: &Result<Pack, PackError>) -> Result<Vec<(ObjectId, u64)>, PackError> {
    pack.as_ref().map(|pack| pack.objects().map(|object| (object.id, object.size)).collect()).map_err(Clone::clone)
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let format = if choice & 1 == 0 { Format::Sha1 } else { Format::Sha256 };
    let mut bytes = bytes.to_vec();
    if choice & 2 != 0 {
        let end = bytes.len().saturating_sub(format.bytes());
        bytes.truncate(end);
        let sum = checksum(format, &bytes);
        bytes.extend_from_slice(sum.as_bytes());
    }
    let whole = read(format, &bytes, bytes.len().max(1), LIMITS);
    let pieces = read(format, &bytes, usize::from(choice >> 2) + 1, LIMITS);
    assert_eq!(names(&whole).is_ok(), names(&pieces).is_ok());
    if let Ok(names) = names(&whole) {
        assert_eq!(names, self::names(&pieces).expect("the same"));
    }
    let _ = read(format, &bytes, bytes.len().max(1), Limits { thin: true, ..LIMITS });
    let Ok(mut pack) = whole else { return };
    assert_eq!(pack.bytes(), bytes);
    assert_eq!(pack.unknown(), 0);
    let rules = PathRules { forbidden: Globs::parse([".github", "*.pem"]).expect("globs"), ..PathRules::default() };
    let reviewed = review(&mut pack, &rules, &Nothing, &mut |seen| {
        assert_eq!(seen.content.len() as u64, seen.object.size);
        ControlFlow::Continue(())
    });
    if let Ok(reviewed) = reviewed {
        for change in &reviewed.changes {
            // A tree of which nothing is known is told as a whole.
            let whole = change.path.is_empty() && change.kind == EntryKind::Tree;
            assert!(
                whole
                    || change
                        .path
                        .split(|byte| *byte == b'/')
                        .all(|part| !part.is_empty() && part != b".." && part != b".")
            );
            assert!(!change.path.iter().any(u8::is_ascii_control));
        }
    }
});
