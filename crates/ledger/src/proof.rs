//! Inclusion proofs: that one record stands in the tree which a checkpoint signs.

use serde::{Deserialize, Serialize};
use sha2::Sha256;
use stockade_domain::Digest;

use crate::{
    Checkpoint,
    tree::{MAX_LEAVES, inclusion_path, merkle_root},
};

/// Shows, together with a checkpoint of `size`, that a record stands at `seq` in a producer's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// The record's number.
    pub seq: u64,
    /// The size of the tree.
    pub size: u64,
    /// The audit path of RFC 6962 §2.1.1, lowest first.
    pub path: Vec<Digest>,
}

/// Why a proof proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The checkpoint is of another size.
    #[error("the proof is for a tree of {proof} records, the checkpoint signs one of {checkpoint}")]
    OtherSize {
        /// Of the proof.
        proof: u64,
        /// Of the checkpoint.
        checkpoint: u64,
    },
    /// It does not lead to the checkpoint's root.
    #[error("the record with number {seq} is not the one in the tree that the checkpoint signs")]
    NotIncluded {
        /// The record's number.
        seq: u64,
    },
}

/// The proof for the record `seq` from the leaf hashes of all records of the checkpoint's tree, in order.
/// Nothing if there is no such record.
pub fn prove(leaves: &[Digest], seq: u64) -> Option<Proof> {
    let path = inclusion_path(leaves, usize::try_from(seq).ok()?)?;
    Some(Proof { seq, size: leaves.len() as u64, path })
}

impl Proof {
    /// Checks that the record with these canonical bytes stands at `seq` in the checkpoint's tree. Whoever
    /// calls this has verified the checkpoint's signature before.
    pub fn verify(&self, canonical: &[u8], checkpoint: &Checkpoint) -> Result<(), ProofError> {
        if self.size != checkpoint.size {
            return Err(ProofError::OtherSize { proof: self.size, checkpoint: checkpoint.size });
        }
        let wrong = ProofError::NotIncluded { seq: self.seq };
        if self.size > MAX_LEAVES || self.path.len() > 64 {
            return Err(wrong);
        }
        let digests: Vec<_> = self.path.iter().map(|digest| digest.0.into()).collect();
        let path = ct_merkle::InclusionProof::<Sha256>::from_digests(digests.iter());
        merkle_root((checkpoint.size, checkpoint.root)).verify_inclusion(&canonical, self.seq, &path).map_err(|_| wrong)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Tree, leaf_hash};

    fn log(n: u64) -> (Vec<Digest>, Checkpoint) {
        let leaves: Vec<_> = (0..n).map(|i| leaf_hash(format!("record {i}").as_bytes())).collect();
        let mut tree = Tree::new();
        leaves.iter().for_each(|leaf| tree.append(*leaf));
        let checkpoint = Checkpoint { origin: "stockade/test".into(), size: n, root: tree.root() };
        (leaves, checkpoint)
    }

    #[test]
    fn every_record_proves_itself_and_no_other() {
        for n in 1..20 {
            let (leaves, checkpoint) = log(n);
            for seq in 0..n {
                let proof = prove(&leaves, seq).unwrap();
                let proof: Proof = serde_json::from_str(&serde_json::to_string(&proof).unwrap()).unwrap();
                assert_eq!(proof.verify(format!("record {seq}").as_bytes(), &checkpoint), Ok(()));
                assert_eq!(proof.verify(b"another", &checkpoint), Err(ProofError::NotIncluded { seq }));
            }
            assert_eq!(prove(&leaves, n), None);
        }
    }

    #[test]
    fn a_proof_for_another_size_is_refused() {
        let (leaves, _) = log(5);
        let (_, later) = log(6);
        let error = prove(&leaves, 2).unwrap().verify(b"record 2", &later).unwrap_err();
        assert_eq!(error, ProofError::OtherSize { proof: 5, checkpoint: 6 });
    }

    proptest! {
        #[test]
        fn no_proof_makes_it_panic(seq: u64, size: u64, path in prop::collection::vec(any::<[u8; 32]>(), 0..70)) {
            let checkpoint = Checkpoint { origin: "stockade/test".into(), size, root: Digest([7; 32]) };
            let proof = Proof { seq, size, path: path.into_iter().map(Digest).collect() };
            prop_assert!(proof.verify(b"x", &checkpoint).is_err());
        }
    }
}
