//! Exports: as they come, and mended. Hashes and signatures keep a fuzzer from what lies behind them, so the second
//! time every hash is computed and every checkpoint signed anew.
#![no_main]

use std::sync::LazyLock;

use stockade_domain::Timestamp;
use stockade_ledger::{Checkpoint, ExportLine, Exporter, SigningKey, Tree, leaf_hash, verify, verify_with_keys};

static KEY: LazyLock<SigningKey> = LazyLock::new(SigningKey::generate);

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(report) = verify(bytes) {
        let _ = report.to_string();
    }
    let mut export = Exporter::new(Vec::new(), Timestamp(0)).expect("memory takes it");
    let mut tree = Tree::new();
    for line in bytes.split(|byte| *byte == b'\n').skip(1).take(64) {
        let line = match serde_json::from_slice(line) {
            Ok(ExportLine::Record { canonical, .. }) => {
                tree.append(leaf_hash(canonical.as_bytes()));
                ExportLine::record(canonical.as_bytes())
            }
            Ok(ExportLine::Key { name, .. }) => ExportLine::Key { name, key: KEY.public() },
            Ok(ExportLine::Checkpoint { producer, note }) => {
                let origin = Checkpoint::origin_of(&producer);
                let size = note.checkpoint().size;
                let note = Checkpoint { origin: origin.clone(), size, root: tree.root() }.sign(&origin, &KEY);
                ExportLine::Checkpoint { producer, note }
            }
            Ok(line) => line,
            Err(_) => continue,
        };
        export.line(&line).expect("memory takes it");
    }
    let export = export.finish().expect("memory takes it");
    let own = verify(&export[..]);
    if let Ok(report) = &own {
        assert!(report.producers.iter().all(|ledger| ledger.records == ledger.size));
        let _ = report.to_string();
    }
    let known: Vec<_> = own.iter().flat_map(|report| &report.producers).collect();
    let known: Vec<_> = known.iter().map(|l| (Checkpoint::origin_of(&l.producer), KEY.public())).collect();
    assert_eq!(verify_with_keys(&export[..], &known).is_ok(), own.is_ok());
});
