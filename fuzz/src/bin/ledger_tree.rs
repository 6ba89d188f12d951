//! Frontiers and proofs: what reads is written again as it stood and can grow; a proof shows what it says or nothing.
#![no_main]

use stockade_domain::Digest;
use stockade_ledger::{Checkpoint, Proof, Tree, consistency_proof, leaf_hash, prove, verify_consistency};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(mut tree) = Tree::from_bytes(bytes) {
        assert_eq!(tree.to_bytes(), bytes);
        tree.append(leaf_hash(b"x"));
        let again = Tree::from_bytes(&tree.to_bytes());
        // One leaf more than may be read is written all the same: it is nobody's yet.
        assert!(again.is_err() || again == Ok(tree));
    }
    let root = Digest([7; 32]);
    if let Ok(proof) = serde_json::from_slice::<Proof>(bytes) {
        let checkpoint = Checkpoint { origin: "x".into(), size: proof.size, root };
        assert!(proof.verify(b"x", &checkpoint).is_err());
    }
    let Some((head, rest)) = bytes.split_first_chunk::<16>() else { return };
    let (old, new) = head.split_at(8);
    let number = |bytes: &[u8]| bytes.iter().fold(0_u64, |n, byte| n << 8 | u64::from(*byte));
    let digests: Vec<Digest> = rest.as_chunks::<32>().0.iter().map(|chunk| Digest(*chunk)).collect();
    let _ = verify_consistency((number(old), root), (number(new), Digest([8; 32])), &digests);

    // A small tree of this input's making, and the proofs about it.
    let leaves: Vec<Digest> = rest.iter().take(40).map(|byte| leaf_hash(&[*byte])).collect();
    let root_of = |leaves: &[Digest]| {
        let mut tree = Tree::new();
        leaves.iter().for_each(|leaf| tree.append(*leaf));
        tree.root()
    };
    let size = leaves.len() as u64;
    let (seq, part) = (number(old), number(new));
    let checkpoint = Checkpoint { origin: "x".into(), size, root: root_of(&leaves) };
    match (prove(&leaves, seq), rest.get(usize::try_from(seq).unwrap_or(usize::MAX))) {
        (Some(proof), Some(byte)) => assert_eq!(proof.verify(&[*byte], &checkpoint), Ok(())),
        (proof, _) => assert!(proof.is_none() && seq >= size),
    }
    match consistency_proof(&leaves, part) {
        Some(proof) => {
            let old = leaves.get(..usize::try_from(part).expect("no more than all")).expect("no more than all");
            assert!(verify_consistency((part, root_of(old)), (size, checkpoint.root), &proof));
        }
        None => assert!(part == 0 || part > size),
    }
});
