//! The Merkle tree of RFC 6962 §2.1 over canonical record bytes.
//!
//! Proofs are *checked* by the crate `ct-merkle`. Its tree keeps every leaf's bytes in memory and cannot be
//! taken up from a database row, so appending is done here on the frontier: the roots of the perfect subtrees, at most
//! 64 digests. Tests hold ours against that crate's roots and proofs.

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use stockade_domain::Digest;

/// The largest tree that is read from outside, in leaves.
pub(crate) const MAX_LEAVES: u64 = 1 << 48;

/// The SHA-256 of some pieces, one after the other.
pub fn sha256(pieces: &[&[u8]]) -> Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    pieces.iter().for_each(|piece| context.update(piece));
    let mut bytes = [0; 32];
    for (to, from) in bytes.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    Digest(bytes)
}

/// The hash of a leaf: SHA-256 of a zero byte and the record's canonical bytes.
pub fn leaf_hash(canonical: &[u8]) -> Digest {
    sha256(&[&[0], canonical])
}

fn node_hash(left: &Digest, right: &Digest) -> Digest {
    sha256(&[&[1], &left.0, &right.0])
}

/// An append-only tree that remembers only what it needs to grow and to give its root.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Shape", into = "Shape")]
pub struct Tree {
    size: u64,
    /// The roots of the perfect subtrees, largest first: one for each one-bit of `size`.
    frontier: Vec<Digest>,
}

/// Bytes or numbers that are no frontier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no frontier of a tree: a tree of {size} leaves has not {digests} perfect subtrees")]
pub struct FrontierError {
    size: u64,
    digests: usize,
}

#[derive(Serialize, Deserialize)]
struct Shape {
    size: u64,
    frontier: Vec<Digest>,
}

impl Tree {
    /// A tree without leaves.
    pub const fn new() -> Self {
        Self { size: 0, frontier: Vec::new() }
    }

    /// The number of leaves.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf by its hash, [`leaf_hash`].
    pub fn append(&mut self, leaf: Digest) {
        let mut node = leaf;
        // Each trailing one-bit of the size is a perfect subtree that the new one completes.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.frontier.pop() {
                node = node_hash(&left, &node);
            }
        }
        self.frontier.push(node);
        self.size += 1;
    }

    /// The Merkle tree hash of RFC 6962; of no leaves it is the SHA-256 of nothing.
    pub fn root(&self) -> Digest {
        let mut parts = self.frontier.iter().rev();
        let Some(last) = parts.next() else { return sha256(&[]) };
        parts.fold(*last, |right, left| node_hash(left, &right))
    }

    /// Its whole state as bytes: the size (u64, big endian) and the digests.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.size.to_be_bytes().to_vec();
        self.frontier.iter().for_each(|digest| bytes.extend_from_slice(&digest.0));
        bytes
    }

    /// The tree with this state.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FrontierError> {
        let (size, rest) = bytes.split_first_chunk::<8>().ok_or(FrontierError { size: 0, digests: 0 })?;
        let size = u64::from_be_bytes(*size);
        let (chunks, left_over) = rest.as_chunks::<32>();
        if !left_over.is_empty() {
            return Err(FrontierError { size, digests: chunks.len() });
        }
        Shape { size, frontier: chunks.iter().map(|chunk| Digest(*chunk)).collect() }.try_into()
    }
}

impl TryFrom<Shape> for Tree {
    type Error = FrontierError;
    fn try_from(Shape { size, frontier }: Shape) -> Result<Self, FrontierError> {
        if size > MAX_LEAVES || frontier.len() as u64 != u64::from(size.count_ones()) {
            return Err(FrontierError { size, digests: frontier.len() });
        }
        Ok(Self { size, frontier })
    }
}
impl From<Tree> for Shape {
    fn from(Tree { size, frontier }: Tree) -> Self {
        Self { size, frontier }
    }
}

/// The root over some leaf hashes (MTH of RFC 6962 §2.1).
pub(crate) fn root_of(leaves: &[Digest]) -> Digest {
    let mut tree = Tree::new();
    leaves.iter().for_each(|leaf| tree.append(*leaf));
    tree.root()
}

/// The largest power of two below `n`, which is at least two.
const fn split_point(n: usize) -> usize {
    1 << (usize::BITS - 1 - (n - 1).leading_zeros())
}

/// The path of RFC 6962 §2.1.1 from leaf `index` to the root, lowest first. Nothing if there is no such leaf.
pub(crate) fn inclusion_path(leaves: &[Digest], index: usize) -> Option<Vec<Digest>> {
    if index >= leaves.len() {
        return None;
    }
    let (mut path, mut part, mut at) = (Vec::new(), leaves, index);
    while part.len() > 1 {
        let (left, right) = part.split_at(split_point(part.len()));
        if at < left.len() {
            path.push(root_of(right));
            part = left;
        } else {
            path.push(root_of(left));
            at -= left.len();
            part = right;
        }
    }
    path.reverse();
    Some(path)
}

/// The proof of RFC 6962 §2.1.2 that the tree of the first `old` leaves is a prefix of the tree of all. Nothing if
/// `old` is zero or more than all.
pub fn consistency_proof(leaves: &[Digest], old: u64) -> Option<Vec<Digest>> {
    let mut old = usize::try_from(old).ok().filter(|old| (1..=leaves.len()).contains(old))?;
    let (mut proof, mut part, mut whole) = (Vec::new(), leaves, true);
    while old != part.len() {
        let (left, right) = part.split_at(split_point(part.len()));
        if old <= left.len() {
            proof.push(root_of(right));
            part = left;
        } else {
            proof.push(root_of(left));
            old -= left.len();
            part = right;
            whole = false;
        }
    }
    if !whole {
        proof.push(root_of(part));
    }
    proof.reverse();
    Some(proof)
}

/// Whether `proof` shows that the tree `old` (size and root) is a prefix of the tree `new`.
#[must_use]
pub fn verify_consistency(old: (u64, Digest), new: (u64, Digest), proof: &[Digest]) -> bool {
    if old.0 == 0 || old.0 > new.0 || new.0 > MAX_LEAVES {
        return false;
    }
    let digests: Vec<_> = proof.iter().map(|digest| digest.0.into()).collect();
    let proof = ct_merkle::ConsistencyProof::<Sha256>::from_digests(digests.iter());
    merkle_root(new).verify_consistency(&merkle_root(old), &proof).is_ok()
}

pub(crate) fn merkle_root((size, root): (u64, Digest)) -> ct_merkle::RootHash<Sha256> {
    ct_merkle::RootHash::new(root.0.into(), size)
}

#[cfg(test)]
mod tests {
    use ct_merkle::mem_backed_tree::MemoryBackedTree;

    use super::*;

    fn leaves(n: usize) -> (Vec<Digest>, MemoryBackedTree<Sha256, Vec<u8>>) {
        let mut theirs = MemoryBackedTree::new();
        let ours = (0..n).map(|i| format!("record {i}").into_bytes()).inspect(|leaf| theirs.push(leaf.clone()));
        (ours.map(|leaf| leaf_hash(&leaf)).collect(), theirs)
    }

    #[test]
    fn roots_are_those_of_the_reference() {
        let (hashes, _) = leaves(150);
        let mut tree = Tree::new();
        assert_eq!(tree.root().to_string(), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        for (n, hash) in hashes.iter().enumerate() {
            tree.append(*hash);
            let (_, theirs) = leaves(n + 1);
            assert_eq!(tree.root().0.as_slice(), theirs.root().as_bytes().as_slice(), "{n}");
            assert_eq!(tree.size(), n as u64 + 1);
        }
    }

    #[test]
    fn proofs_are_those_of_the_reference() {
        for n in 1..40 {
            let (hashes, theirs) = leaves(n);
            for i in 0..n {
                let ours: Vec<u8> = inclusion_path(&hashes, i).unwrap().iter().flat_map(|d| d.0).collect();
                assert_eq!(ours, theirs.prove_inclusion(i).as_bytes(), "{i} of {n}");
            }
            for old in 1..=n {
                let ours = consistency_proof(&hashes, old as u64).unwrap();
                let bytes: Vec<u8> = ours.iter().flat_map(|d| d.0).collect();
                assert_eq!(bytes, theirs.prove_consistency(n - old).as_bytes(), "{old} of {n}");
                let (from, to) = ((old as u64, root_of(&hashes[..old])), (n as u64, root_of(&hashes)));
                assert!(verify_consistency(from, to, &ours));
                assert!(!verify_consistency((from.0, sha256(&[b"other"])), to, &ours));
            }
            assert_eq!(inclusion_path(&hashes, n), None);
            assert_eq!(consistency_proof(&hashes, 0), None);
            assert_eq!(consistency_proof(&hashes, n as u64 + 1), None);
        }
    }

    #[test]
    fn a_tree_is_taken_up_from_its_frontier() {
        let (hashes, _) = leaves(77);
        let mut whole = Tree::new();
        for hash in &hashes {
            whole = Tree::from_bytes(&whole.to_bytes()).unwrap();
            let json = serde_json::to_string(&whole).unwrap();
            whole = serde_json::from_str(&json).unwrap();
            whole.append(*hash);
        }
        assert_eq!(whole.root(), root_of(&hashes));
    }

    #[test]
    fn a_wrong_frontier_is_refused() {
        for bytes in [&[][..], &[0; 7], &[0; 9], &[0; 40], &[0xff; 8], &[0xff; 8 + 64 * 32]] {
            assert!(Tree::from_bytes(bytes).is_err(), "{}", bytes.len());
        }
        assert!(serde_json::from_str::<Tree>(r#"{"size":3,"frontier":[]}"#).is_err());
    }

    #[test]
    fn hostile_sizes_do_not_panic() {
        for size in [0, 1, MAX_LEAVES, MAX_LEAVES + 1, u64::MAX] {
            assert!(!verify_consistency((size / 2, Digest([0; 32])), (size, Digest([1; 32])), &[]));
        }
    }
}
