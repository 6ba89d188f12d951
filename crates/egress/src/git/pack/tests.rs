//! Packs made by hand: those that lie, and those at the limits.

use miniz_oxide::deflate::compress_to_vec_zlib;
use proptest::prelude::*;

use super::*;

/// A pack of entries: the type, the length that is said, what stands before the compressed bytes, and these inflated.
fn pack(entries: &[(u8, usize, &[u8], &[u8])]) -> Vec<u8> {
    let mut out = b"PACK\0\0\0\x02".to_vec();
    out.extend_from_slice(&u32::try_from(entries.len()).expect("few").to_be_bytes());
    for (kind, length, base, content) in entries {
        let mut rest = length >> 4;
        let mut byte = kind << 4 | u8::try_from(length & 0x0f).expect("four bits");
        while rest > 0 {
            out.push(byte | 0x80);
            byte = u8::try_from(rest & 0x7f).expect("seven bits");
            rest >>= 7;
        }
        out.push(byte);
        out.extend_from_slice(base);
        out.extend_from_slice(&compress_to_vec_zlib(content, 6));
    }
    let mut sum = Hasher::plain(Format::Sha1);
    sum.update(&out);
    out.extend_from_slice(sum.finish().expect("a sum").as_bytes());
    out
}

fn read(bytes: &[u8], limits: Limits) -> Result<Pack, PackError> {
    let mut reader = PackReader::new(Format::Sha1, limits);
    reader.push(bytes)?;
    reader.finish()
}

fn blob(content: &[u8]) -> ObjectId {
    let mut hasher = hasher(Format::Sha1, ObjectKind::Blob, content.len());
    hasher.update(content);
    hasher.finish().expect("a name")
}

/// A delta upon five bytes: all of them, and one more.
const DELTA: &[u8] = &[5, 6, 0b1001_0000, 5, 1, b'!'];

#[test]
fn deltas_by_name_may_come_before_their_base() {
    let base = blob(b"hello");
    let bytes = pack(&[(7, DELTA.len(), base.as_bytes(), DELTA), (3, 5, b"", b"hello")]);
    let pack = read(&bytes, Limits::default()).expect("reads");
    assert_eq!(pack.objects().map(|object| object.id).collect::<Vec<_>>(), [blob(b"hello!"), base]);
}

#[test]
fn lies_in_lengths_are_refused() {
    for said in [0, 4, 6, 100] {
        let read = read(&pack(&[(3, said, b"", b"hello")]), Limits::default()).map(|_| ());
        assert_eq!(read, Err(PackError::Lies(0)), "{said}");
    }
    let huge = [b"PACK\0\0\0\x02\0\0\0\x01".as_slice(), &[0xbf; 12]].concat();
    assert_eq!(read(&huge, Limits::default()).map(|_| ()), Err(PackError::Length(0)));
    let many = b"PACK\0\0\0\x02\xff\xff\xff\xff";
    assert!(matches!(read(many, Limits::default()), Err(PackError::Objects { .. })));
    assert_eq!(read(b"PACK\0\0\0\x04\0\0\0\0", Limits::default()).map(|_| ()), Err(PackError::Header));
    for kind in [0, 5] {
        assert_eq!(
            read(&pack(&[(kind, 5, b"", b"hello")]), Limits::default()).map(|_| ()),
            Err(PackError::Type(0, kind))
        );
    }
    assert!(matches!(
        read(&pack(&[(3, 5, b"", b"hello")]), Limits { pack_bytes: 30, ..Limits::default() }),
        Err(PackError::Long(30))
    ));
}

#[test]
fn deltas_that_do_not_add_up_are_refused() {
    let deltas: [&[u8]; 9] = [
        b"",
        &[5],
        &[4, 6, 0b1001_0000, 5, 1, b'!'],
        &[5, 7, 0b1001_0000, 5, 1, b'!'],
        &[5, 5, 0b1001_0000, 5, 1, b'!'],
        &[5, 6, 0b1001_0001, 1, 5, 1, b'!'],
        &[5, 6, 0b1001_0000],
        &[5, 6, 0],
        &[5, 6, 0b1001_0000, 5, 9, b'!'],
    ];
    for delta in deltas {
        let base = blob(b"hello");
        let bytes = pack(&[(3, 5, b"", b"hello"), (7, delta.len(), base.as_bytes(), delta)]);
        assert_eq!(read(&bytes, Limits::default()).map(|_| ()), Err(PackError::Delta(1)), "{delta:?}");
    }
    let large: &[u8] = &[5, 0xff, 0xff, 0xff, 0xff, 0x7f];
    let bytes = pack(&[(3, 5, b"", b"hello"), (7, large.len(), blob(b"hello").as_bytes(), large)]);
    assert!(matches!(read(&bytes, Limits::default()), Err(PackError::Large { .. })));
}

#[test]
fn circles_of_deltas_and_bases_outside_are_refused() {
    let (one, other) = (blob(b"one"), blob(b"other"));
    let bytes = pack(&[(7, DELTA.len(), one.as_bytes(), DELTA), (7, DELTA.len(), other.as_bytes(), DELTA)]);
    assert_eq!(read(&bytes, Limits::default()).map(|_| ()), Err(PackError::Thin { index: 0, base: one }));
    assert_eq!(read(&bytes, Limits { thin: true, ..Limits::default() }).expect("allowed").unknown(), 2);
    for back in [0u8, 1, 5, 17, 127] {
        let bytes = pack(&[(3, 5, b"", b"hello"), (6, DELTA.len(), &[back], DELTA)]);
        // The base begins at byte 12 and the delta 14 bytes later: nothing else is a base.
        assert_eq!(read(&bytes, Limits::default()).map(|_| ()), Err(PackError::Offset(1)), "{back}");
    }
    let back = u8::try_from(pack(&[(3, 5, b"", b"hello")]).len() - 32).expect("short");
    assert!(read(&pack(&[(3, 5, b"", b"hello"), (6, DELTA.len(), &[back], DELTA)]), Limits::default()).is_ok());
}

#[test]
fn chains_and_what_they_need_at_once_have_limits() {
    // Each is the one before and one more byte.
    let mut contents = vec![b"x".to_vec()];
    let mut entries = vec![(3u8, 1usize, Vec::new(), b"x".to_vec())];
    for n in 0..50u8 {
        let before = contents.last().expect("one").clone();
        let length = n + 1;
        let delta = vec![length, length + 1, 0b1001_0000, length, 1, n];
        entries.push((7, delta.len(), blob(&before).as_bytes().to_vec(), delta));
        contents.push([before, vec![n]].concat());
    }
    let entries: Vec<_> = entries
        .iter()
        .map(|(kind, length, base, content)| (*kind, *length, base.as_slice(), content.as_slice()))
        .collect();
    let bytes = pack(&entries);
    assert_eq!(read(&bytes, Limits { chain: 50, ..Limits::default() }).expect("reads").unknown(), 0);
    assert_eq!(read(&bytes, Limits { chain: 49, ..Limits::default() }).map(|_| ()), Err(PackError::Chain(49)));
    assert!(matches!(read(&bytes, Limits { working_bytes: 20, ..Limits::default() }), Err(PackError::Working(20))));
    assert!(matches!(read(&bytes, Limits { total_bytes: 900, ..Limits::default() }), Err(PackError::Total(900))));
}

#[test]
fn a_wrong_sum_damage_and_more_after_the_end_are_refused() {
    let good = pack(&[(3, 5, b"", b"hello")]);
    assert!(read(&good, Limits::default()).is_ok());
    let mut wrong = good.clone();
    *wrong.last_mut().expect("one") ^= 1;
    assert_eq!(read(&wrong, Limits::default()).map(|_| ()), Err(PackError::Checksum));
    let mut damaged = good.clone();
    damaged[13] ^= 0xff;
    assert_eq!(read(&damaged, Limits::default()).map(|_| ()), Err(PackError::Damaged(0)));
    assert_eq!(read(&[good.as_slice(), b"PACK"].concat(), Limits::default()).map(|_| ()), Err(PackError::After));
    assert!(read(&pack(&[]), Limits::default()).expect("an empty one").is_empty());
    assert!(matches!(read(&pack(&[(2, 5, b"", b"hello")]), Limits::default()), Err(PackError::Object { .. })));
}

proptest! {
    #[test]
    fn any_split_gives_the_same(contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..6), cut in 1usize..40) {
        let entries: Vec<_> = contents.iter().map(|content| (3u8, content.len(), b"".as_slice(), content.as_slice())).collect();
        let bytes = pack(&entries);
        let mut reader = PackReader::new(Format::Sha1, Limits::default());
        for piece in bytes.chunks(cut) {
            reader.push(piece).expect("reads");
        }
        let ids: Vec<_> = reader.finish().expect("reads").objects().map(|object| object.id).collect();
        prop_assert_eq!(ids, contents.iter().map(|content| blob(content)).collect::<Vec<_>>());
    }

    #[test]
    fn deltas_never_panic(base in prop::collection::vec(any::<u8>(), 0..50), delta in prop::collection::vec(any::<u8>(), 0..50)) {
        let _ = delta::apply(&base, &delta);
    }

    #[test]
    fn a_changed_byte_never_panics(at in 0usize..60, value in any::<u8>()) {
        let mut bytes = pack(&[(3, 5, b"", b"hello"), (7, DELTA.len(), blob(b"hello").as_bytes(), DELTA)]);
        if let Some(byte) = bytes.get_mut(at) {
            *byte = value;
        }
        let _ = read(&bytes, Limits::default());
    }
}
