//! The durable log: order, batches, segments, recovery, damage.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use proptest::prelude::*;
use stockade_domain::{ContentKind, World};
use stockade_ledger::{
    EntryKind, Log, LogEntry, LogError, LogOptions, MAX_BATCH_BYTES, MAX_BATCH_ENTRIES, RunKey, SystemWorld,
};

use crate::common::{open_log, run};

fn event(text: &str) -> LogEntry {
    LogEntry::new(EntryKind::Event, text.to_owned())
}

fn texts(log: &Log) -> Vec<String> {
    let all = log.read(log.start(), usize::MAX, usize::MAX).unwrap();
    let expected: Vec<_> = (log.start()..log.end()).collect();
    assert_eq!(all.iter().map(|(position, _)| *position).collect::<Vec<_>>(), expected);
    all.into_iter().map(|(_, entry)| String::from_utf8(entry.payload.to_vec()).unwrap()).collect()
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|end| end == "log"));
    found.sort();
    found
}

fn small(dir: &Path) -> Log {
    Log::open(dir, LogOptions { segment_bytes: 200, ..LogOptions::default() }).unwrap()
}

#[tokio::test]
async fn entries_come_back_in_order_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_log(dir.path());
    assert_eq!((log.start(), log.end()), (0, 0));
    assert_eq!(log.append(vec![event("a")]).await.unwrap(), 0);
    assert_eq!(log.append(vec![event("b"), event("c")]).await.unwrap(), 1);
    assert_eq!(log.append(vec![]).await.unwrap(), 3);
    assert_eq!(texts(&log), ["a", "b", "c"]);
    drop(log);
    let log = open_log(dir.path());
    assert_eq!(log.recovered(), None);
    assert_eq!(log.append(vec![event("d")]).await.unwrap(), 3);
    assert_eq!(texts(&log), ["a", "b", "c", "d"]);
}

#[tokio::test]
async fn reading_keeps_to_its_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_log(dir.path());
    log.append((0..10).map(|i| event(&format!("entry {i}"))).collect()).await.unwrap();
    let positions =
        |from, items, bytes| log.read(from, items, bytes).unwrap().into_iter().map(|(at, _)| at).collect::<Vec<_>>();
    assert_eq!(positions(2, 3, 1000), [2, 3, 4]);
    assert_eq!(positions(2, 100, 15), [2, 3]);
    assert_eq!(positions(2, 100, 1), [2], "one entry always comes, however small the bound");
    assert_eq!(positions(10, 100, 100), [] as [u64; 0]);
    assert!(matches!(log.read(11, 1, 1), Err(LogError::Beyond { from: 11, end: 10 })));
}

#[tokio::test]
async fn segments_follow_each_other_and_old_ones_are_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let log = small(dir.path());
    for i in 0..40 {
        log.append(vec![event(&format!("entry {i}"))]).await.unwrap();
    }
    assert!(segments(dir.path()).len() > 3);
    assert_eq!(texts(&log).len(), 40);
    log.forget_before(20).unwrap();
    assert!(log.start() > 0 && log.start() <= 20, "{}", log.start());
    assert!(matches!(log.read(0, 1, 1), Err(LogError::Forgotten { from: 0, .. })));
    let kept = texts(&log);
    log.forget_before(u64::MAX).unwrap();
    assert_eq!(segments(dir.path()).len(), 1, "the last segment stays, so that positions go on");
    let end = log.end();
    drop(log);
    let log = small(dir.path());
    assert_eq!((log.end(), kept.last().unwrap().as_str()), (end, "entry 39"));
    assert_eq!(log.append(vec![event("next")]).await.unwrap(), 40);
}

#[tokio::test]
async fn the_end_can_be_watched() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_log(dir.path());
    let mut end = log.watch_end();
    log.append(vec![event("a")]).await.unwrap();
    end.changed().await.unwrap();
    assert_eq!(*end.borrow(), 1);
}

#[tokio::test]
async fn a_second_opener_is_refused_until_the_first_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_log(dir.path());
    assert!(matches!(Log::open(dir.path(), LogOptions::default()), Err(LogError::InUse { .. })));
    drop(log);
    assert!(Log::open(dir.path(), LogOptions::default()).is_ok());
}

#[tokio::test]
async fn a_batch_above_the_limit_is_refused_and_one_at_it_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_log(dir.path());
    let many = |n| vec![event(""); n];
    assert!(log.append(many(MAX_BATCH_ENTRIES)).await.is_ok());
    assert!(matches!(log.append(many(MAX_BATCH_ENTRIES + 1)).await, Err(LogError::BatchTooLarge)));
    let big = vec![LogEntry::new(EntryKind::Event, vec![7; MAX_BATCH_BYTES + MAX_BATCH_ENTRIES * 5])];
    assert!(matches!(log.append(big).await, Err(LogError::BatchTooLarge)));
    let big = vec![LogEntry::new(EntryKind::Event, vec![7; MAX_BATCH_BYTES])];
    let at = log.append(big.clone()).await.unwrap();
    assert_eq!(log.read(at, 1, 1).unwrap(), [(at, big[0].clone())]);
}

#[tokio::test]
async fn content_keeps_its_kind() {
    let sealed = RunKey::generate(&SystemWorld, run()).seal(&SystemWorld, ContentKind::ToolOutput, b"hello").unwrap();
    let entry = LogEntry::content(&sealed);
    assert_eq!(entry.as_content(), Some((run(), sealed.content, sealed.bytes)));
    assert_eq!(event("hello").as_content(), None);
    let mut junk = [0; 64];
    for len in 0..64 {
        SystemWorld.random(&mut junk);
        assert_eq!(LogEntry::new(EntryKind::Content, junk[..len].to_vec()).as_content(), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_appends_all_arrive_once_and_each_in_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let log = Arc::new(Log::open(dir.path(), LogOptions { segment_bytes: 4096, ..LogOptions::default() }).unwrap());
    let tasks: Vec<_> = (0..32)
        .map(|task| {
            let log = Arc::clone(&log);
            tokio::spawn(async move {
                for i in 0..20 {
                    let batch = vec![event(&format!("{task}/{i}/a")), event(&format!("{task}/{i}/b"))];
                    let first = log.append(batch).await.unwrap();
                    let read = log.read(first, 2, usize::MAX).unwrap();
                    assert_eq!(read[0].1, event(&format!("{task}/{i}/a")));
                    assert_eq!(read[1].1, event(&format!("{task}/{i}/b")));
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let all = texts(&log);
    assert_eq!(all.len(), 32 * 20 * 2);
    for task in 0..32 {
        let prefix = format!("{task}/");
        let own: Vec<_> = all.iter().filter(|text| text.starts_with(&prefix)).collect();
        let expected: Vec<_> = (0..20).flat_map(|i| [format!("{task}/{i}/a"), format!("{task}/{i}/b")]).collect();
        assert_eq!(own, expected.iter().collect::<Vec<_>>());
    }
}

/// A log of single appends in several segments.
async fn fill(dir: &Path, entries: usize, segment_bytes: u64) {
    let log = Log::open(dir, LogOptions { segment_bytes, ready_after: u64::MAX }).unwrap();
    for i in 0..entries {
        log.append(vec![event(&format!("entry number {i}"))]).await.unwrap();
    }
}

#[tokio::test]
async fn damage_in_the_middle_is_refused_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 20, u64::MAX).await;
    let path = &segments(dir.path())[0];
    let whole = fs::read(path).unwrap();
    // The tenth entry's text; the frame around it begins before.
    let at = whole.windows(15).position(|part| part == b"entry number 10").unwrap();
    let mut bytes = whole.clone();
    bytes[at] ^= 1;
    fs::write(path, &bytes).unwrap();
    let Err(LogError::Corrupt { segment, offset, .. }) = Log::open(dir.path(), LogOptions::default()) else {
        panic!("opened a damaged log");
    };
    assert_eq!((&segment, offset), (path, at as u64 - 5 - 28));
    assert_eq!(fs::read(path).unwrap(), bytes, "nothing was cut");
    fs::write(path, &whole).unwrap();
    assert_eq!(open_log(dir.path()).end(), 20);
}

#[tokio::test]
async fn damage_in_an_earlier_segment_or_a_missing_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 30, 200).await;
    let all = segments(dir.path());
    let whole = fs::read(&all[1]).unwrap();
    fs::write(&all[1], &whole[..whole.len() - 1]).unwrap();
    let Err(LogError::Corrupt { segment, .. }) = Log::open(dir.path(), LogOptions::default()) else { panic!() };
    assert_eq!(segment, all[1]);
    fs::remove_file(&all[1]).unwrap();
    let error = Log::open(dir.path(), LogOptions::default()).unwrap_err();
    assert!(matches!(&error, LogError::Gap { segment, .. } if *segment == all[2]), "{error}");
    fs::write(&all[1], &whole).unwrap();
    let mut header = fs::read(&all[2]).unwrap();
    header[9] ^= 1;
    fs::write(&all[2], &header).unwrap();
    assert!(matches!(Log::open(dir.path(), LogOptions::default()), Err(LogError::Corrupt { offset: 0, .. })));
    fs::write(dir.path().join("notes.log"), "mine").unwrap();
    assert!(matches!(Log::open(dir.path(), LogOptions::default()), Err(LogError::Corrupt { offset: 0, .. })));
}

#[tokio::test]
async fn damage_found_while_reading_is_an_error_too() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_log(dir.path());
    log.append(vec![event("hello")]).await.unwrap();
    let path = &segments(dir.path())[0];
    let mut bytes = fs::read(path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(path, &bytes).unwrap();
    assert!(matches!(log.read(0, 1, 100), Err(LogError::Corrupt { .. })));
}

#[tokio::test]
async fn the_rest_of_an_unfinished_write_is_cut_and_told() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 3, u64::MAX).await;
    let path = &segments(dir.path())[0];
    let whole = fs::read(path).unwrap();
    let torn = [vec![0; 3000], b"page two".to_vec(), vec![0; 500]].concat();
    for (rest, written) in [(b"STKF".to_vec(), 4), (vec![0xff; 27], 27), (torn, 3008), (vec![0; 3000], 0)] {
        fs::write(path, [whole.as_slice(), &rest].concat()).unwrap();
        let log = open_log(dir.path());
        let cut = log.recovered().map(|cut| (cut.offset, cut.bytes));
        // Zeros alone are what was made ready, and nothing is told of them.
        assert_eq!(cut, (written > 0).then_some((whole.len() as u64, written)));
        assert_eq!(log.end(), 3);
        drop(log);
        assert_eq!(fs::read(path).unwrap(), whole);
    }
}

#[tokio::test]
async fn a_segment_without_its_header_is_cut() {
    for rest in [0, 1, 27, 28] {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path(), 3, u64::MAX).await;
        fs::write(dir.path().join("00000000000000000003.log"), vec![0; rest]).unwrap();
        let log = open_log(dir.path());
        assert!(log.recovered().is_some());
        assert_eq!(log.append(vec![event("on")]).await.unwrap(), 3);
    }
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("00000000000000000007.log"), "").unwrap();
    let log = open_log(dir.path());
    assert_eq!((log.start(), log.end()), (7, 7));
}

#[tokio::test]
async fn segments_that_are_made_ready_follow_one_another_like_any_others() {
    let dir = tempfile::tempdir().unwrap();
    let options = || LogOptions { segment_bytes: 10_000, ready_after: 1 };
    let log = Log::open(dir.path(), options()).unwrap();
    let mut said = Vec::new();
    // The first is made beside the work: it is there some time.
    while !log.is_ready() || segments(dir.path()).len() < 4 {
        said.push(format!("entry {} {}", said.len(), "x".repeat(said.len() % 900)));
        log.append(vec![event(said.last().unwrap())]).await.unwrap();
    }
    let last = segments(dir.path()).pop().unwrap();
    assert_eq!(fs::metadata(&last).unwrap().len(), 12_288, "whole pages of zeros");
    assert!(log.bytes() > said.iter().map(|text| text.len() as u64).sum());
    assert_eq!(texts(&log), said);
    drop(log);
    assert!(!dir.path().join("spare").exists());
    // Another process died while it made one.
    fs::write(dir.path().join("spare"), "unfinished").unwrap();
    let log = Log::open(dir.path(), options()).unwrap();
    assert_eq!(log.recovered(), None);
    assert!(!log.is_ready(), "what was ready was cut off");
    assert_eq!(texts(&log), said);
    log.append(vec![event("on")]).await.unwrap();
    assert_eq!(texts(&log).len(), said.len() + 1);
}

#[tokio::test]
async fn a_frame_that_is_larger_than_what_is_ready_is_written_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), LogOptions { segment_bytes: 10_000, ready_after: 1 }).unwrap();
    let mut count = 0;
    while !log.is_ready() {
        log.append(vec![event("small")]).await.unwrap();
        count += 1;
    }
    for len in [12_000, 12_288 - 28 - 28 - 5, 12_288 - 28 - 28 - 4, 50_000, 1] {
        log.append(vec![event(&"x".repeat(len))]).await.unwrap();
        count += 1;
    }
    assert_eq!(texts(&log).len(), count);
    drop(log);
    let log = open_log(dir.path());
    assert_eq!((log.recovered(), texts(&log).len()), (None, count));
}

#[tokio::test]
async fn nothing_is_made_ready_where_room_is_short() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), LogOptions { segment_bytes: u64::MAX / 2, ready_after: 1 }).unwrap();
    for i in 0..50 {
        log.append(vec![event(&format!("entry {i}"))]).await.unwrap();
    }
    assert!(!log.is_ready() && !dir.path().join("spare").exists());
    assert_eq!(texts(&log).len(), 50);
}

#[test]
fn a_directory_that_cannot_be_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(Log::open(&file, LogOptions::default()), Err(LogError::Io { .. })));
}

/// Copies a log's files, the last segment cut to `keep` bytes.
fn crashed_copy(from: &Path, to: &Path, keep: u64) {
    let all = segments(from);
    for path in &all {
        let copy = to.join(path.file_name().unwrap());
        fs::copy(path, &copy).unwrap();
        if Some(path) == all.last() {
            fs::OpenOptions::new().write(true).open(&copy).unwrap().set_len(keep).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Whatever length a crash leaves of the last segment: the log opens with a prefix of whole batches, says how much it
    /// cut, and goes on from there.
    #[test]
    fn a_crash_leaves_whole_batches(
        batches in prop::collection::vec(prop::collection::vec(0usize..60, 1..5), 1..12), segment_bytes in 100u64..2000
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(dir.path(), LogOptions { segment_bytes, ready_after: u64::MAX }).unwrap();
        let mut ends = vec![0];
        for (i, batch) in batches.iter().enumerate() {
            let entries = batch.iter().map(|len| event(&format!("{i}:{}", "x".repeat(*len)))).collect();
            let first = runtime.block_on(log.append(entries)).unwrap();
            ends.push(first + batch.len() as u64);
        }
        let all = texts(&log);
        drop(log);
        let last = segments(dir.path()).pop().unwrap();
        let whole = fs::metadata(&last).unwrap().len();
        // Every length of the last frames, and some before: each costs two opened logs.
        for keep in (0..=whole).filter(|keep| whole - keep < 24 || *keep < 32 && keep % 9 == 0 || keep % 61 == 0) {
            let copy = tempfile::tempdir().unwrap();
            crashed_copy(dir.path(), copy.path(), keep);
            let log = Log::open(copy.path(), LogOptions { segment_bytes, ready_after: u64::MAX }).unwrap();
            prop_assert!(ends.contains(&log.end()), "{} of {:?}", log.end(), ends);
            let kept = texts(&log);
            let skip = usize::try_from(log.start()).unwrap();
            prop_assert_eq!(&kept[..], &all[skip..skip + kept.len()]);
            let on_disk = fs::metadata(segments(copy.path()).pop().unwrap()).unwrap().len();
            prop_assert_eq!(log.recovered().is_some(), keep < 28 || on_disk < keep);
            if keep == whole {
                prop_assert_eq!(log.end(), *ends.last().unwrap());
            }
            let next = runtime.block_on(log.append(vec![event("on")])).unwrap();
            prop_assert_eq!(log.read(next, 1, 100).unwrap().len(), 1);
        }
    }

    /// In a segment that was made ready, a crash leaves any of the pages of the last frame, in any order: all of it is there, or
    /// nothing of it is.
    #[test]
    fn a_crash_in_a_ready_segment_leaves_whole_batches(
        last in prop::collection::vec(0usize..3_000, 1..5), landed in prop::collection::vec(any::<bool>(), 24), tail in 0usize..9_000
    ) {
        const SECTOR: usize = 512;
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        runtime.block_on(fill(dir.path(), 6, u64::MAX));
        let path = segments(dir.path()).pop().unwrap();
        let before = usize::try_from(fs::metadata(&path).unwrap().len()).unwrap();
        let log = open_log(dir.path());
        runtime.block_on(log.append(last.iter().map(|len| event(&"y".repeat(*len))).collect())).unwrap();
        drop(log);
        let mut bytes = fs::read(&path).unwrap();
        let whole = bytes.clone();
        for (sector, landed) in (before / SECTOR..bytes.len().div_ceil(SECTOR)).zip(landed) {
            let (start, end) = ((sector * SECTOR).max(before), ((sector + 1) * SECTOR).min(bytes.len()));
            if !landed {
                bytes[start..end].fill(0);
            }
        }
        let (all, none) = (bytes == whole, bytes[before..].iter().all(|byte| *byte == 0));
        bytes.resize(bytes.len() + tail, 0);
        fs::write(&path, bytes).unwrap();
        let log = open_log(dir.path());
        prop_assert_eq!(log.end(), if all { 6 + last.len() as u64 } else { 6 });
        prop_assert_eq!(log.recovered().is_some(), !all && !none);
        let next = runtime.block_on(log.append(vec![event("on")])).unwrap();
        prop_assert_eq!(log.read(next, 1, 100).unwrap().len(), 1);
        drop(log);
        prop_assert_eq!(open_log(dir.path()).end(), next + 1);
    }

    /// Whatever byte is changed: the log refuses, or it is the last frame and nothing before it is lost.
    #[test]
    fn no_changed_byte_is_believed(at in any::<prop::sample::Index>(), bit in 0..8) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        runtime.block_on(fill(dir.path(), 6, u64::MAX));
        let path = segments(dir.path()).pop().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1u8 << bit;
        fs::write(&path, bytes).unwrap();
        match Log::open(dir.path(), LogOptions::default()) {
            Err(LogError::Corrupt { .. }) => {}
            Ok(log) => {
                prop_assert_eq!(log.end(), 5);
                prop_assert!(log.recovered().is_some());
            }
            Err(e) => prop_assert!(false, "{}", e),
        }
    }
}
