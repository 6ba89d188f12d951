//! The transfer folder: how a repository comes in and a change goes out, piece by piece.

use std::{
    fs::File,
    os::fd::{AsFd, OwnedFd},
    os::unix::fs::FileExt,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use stockade_api::guest::{MAX_CHUNK, Reply};

use crate::{Boot, files::Trouble};

/// The longest name of a transfer file, in bytes.
pub const MAX_NAME: usize = 128;

fn open(boot: &Boot, name: &str, flags: OFlags) -> Result<(File, u64), Trouble> {
    let plain = !name.is_empty() && name.len() <= MAX_NAME && !name.starts_with('.') && !name.contains(['/', '\0']);
    if !plain {
        return Err(Trouble::new("bad_request", "a transfer file has a plain name without slashes"));
    }
    let folder: OwnedFd =
        rustix::fs::openat(CWD, &boot.transfer, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    // A pipe must not hold us up, a link must not lead us away.
    let flags = flags | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
    let mode = if flags.contains(OFlags::CREATE) { Mode::from_raw_mode(0o644) } else { Mode::empty() };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let fd = rustix::fs::openat2(folder.as_fd(), name, flags, mode, resolve).map_err(|error| match error {
        rustix::io::Errno::NOENT => Trouble::new("not_found", format!("there is no transfer file `{name}`")),
        rustix::io::Errno::LOOP => Trouble::new("outside", format!("the transfer file `{name}` is a link")),
        error => error.into(),
    })?;
    let facts = rustix::fs::fstat(&fd)?;
    if FileType::from_raw_mode(facts.st_mode) != FileType::RegularFile {
        return Err(Trouble::new("bad_request", format!("the transfer file `{name}` is not a regular file")));
    }
    Ok((fd.into(), u64::try_from(facts.st_size).unwrap_or(0)))
}

/// Writes a piece. The same piece twice is the same file.
pub fn put(boot: &Boot, name: &str, offset: u64, data: &str) -> Result<Reply, Trouble> {
    if data.len() > MAX_CHUNK.div_ceil(3) * 4 {
        return Err(Trouble::new("too_large", format!("a piece is more than {MAX_CHUNK} bytes")));
    }
    let bytes = BASE64_STANDARD.decode(data).map_err(|_| Trouble::new("bad_request", "the piece is not base64"))?;
    let (file, size) = open(boot, name, OFlags::WRONLY | OFlags::CREATE)?;
    if offset == 0 {
        file.set_len(0)?;
    } else if offset > size {
        return Err(Trouble::new("bad_request", format!("a piece at {offset} leaves a hole: `{name}` ends at {size}")));
    }
    file.write_all_at(&bytes, offset)?;
    Ok(Reply::Done {})
}

/// Reads a piece.
pub fn get(boot: &Boot, name: &str, offset: u64) -> Result<Reply, Trouble> {
    let (file, size) = open(boot, name, OFlags::RDONLY)?;
    let mut bytes = vec![0; MAX_CHUNK];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset.saturating_add(filled as u64)) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    bytes.truncate(filled);
    Ok(Reply::Data { data: BASE64_STANDARD.encode(bytes), size })
}
