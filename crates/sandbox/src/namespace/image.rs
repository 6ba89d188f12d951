//! The image that holds an environment's files: an ext4 file system of the size that the class allows.
//!
//! It takes from the machine only what is written to it, cannot grow beyond its size, and is still there when the
//! guest was killed. Making one costs a copy of a few megabytes from a template.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::fs::SeekFrom;

/// The smallest disk, in bytes: less holds no ext4 with room for work.
pub const LEAST_DISK: u64 = 16 << 20;
/// Below this the file system has no journal of its own, in bytes: it would take most of the room.
const LEAST_JOURNALLED: u64 = 128 << 20;

const MAKERS: [&str; 4] = ["/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4", "/usr/bin/mkfs.ext4", "/usr/local/sbin/mkfs.ext4"];

/// The program that makes ext4 file systems, and that loop devices can be had; or why not.
pub fn available(by_root: bool) -> Result<PathBuf, String> {
    if !by_root {
        return Err("only root can mount an image that bounds the files: without, a watcher measures them and ends \
                    the workload above the limit"
            .into());
    }
    let maker = MAKERS
        .iter()
        .map(PathBuf::from)
        .find(|path| path.exists())
        .ok_or("there is no mkfs.ext4: install e2fsprogs")?;
    OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/loop-control")
        .map_err(|error| format!("/dev/loop-control: {error} (modprobe loop?)"))?;
    Ok(maker)
}

/// Makes `image` with room for `bytes`, if it is not there.
pub fn ensure(maker: &Path, templates: &Path, image: &Path, bytes: u64) -> io::Result<()> {
    if image.exists() {
        return Ok(());
    }
    let bytes = bytes / 4096 * 4096;
    fs::create_dir_all(templates)?;
    let template = templates.join(format!("ext4-1-{bytes}.img"));
    if !template.exists() {
        // Others may be making the same one: each under the name of the environment that it is for.
        let fresh = being_made(templates, image.parent().unwrap_or(image));
        let made = format(maker, &fresh, bytes).and_then(|()| fs::rename(&fresh, &template));
        if made.is_err() {
            let _ = fs::remove_file(&fresh);
        }
        made?;
    }
    let fresh = image.with_extension("new");
    copy_sparse(&template, &fresh)?;
    fs::rename(&fresh, image)
}

/// What a template is called while it is made for the environment of a folder.
fn being_made(templates: &Path, folder: &Path) -> PathBuf {
    templates.join(folder.file_name().unwrap_or_default())
}

/// Removes what is left of a template that was being made for the environment of a folder.
pub fn abandon(templates: &Path, folder: &Path) -> io::Result<()> {
    match fs::remove_file(being_made(templates, folder)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)
}

fn format(maker: &Path, path: &Path, bytes: u64) -> io::Result<()> {
    private(path)?.set_len(bytes)?;
    let features = if bytes < LEAST_JOURNALLED { "^has_journal,^resize_inode" } else { "^resize_inode" };
    let mut command = Command::new(maker);
    command.args(["-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-O", features]);
    command.args(["-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"]);
    if bytes >= LEAST_JOURNALLED {
        command.args(["-J", "size=4"]);
    }
    let output = command.arg(path).env_clear().stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("{}: {}", maker.display(), String::from_utf8_lossy(&output.stderr).trim())))
}

/// Copies what is there of a file, leaving its holes.
fn copy_sparse(from: &Path, to: &Path) -> io::Result<()> {
    let source = File::open(from)?;
    let target = private(to)?;
    let size = source.metadata()?.len();
    target.set_len(size)?;
    let mut at = 0;
    loop {
        let begin = match rustix::fs::seek(&source, SeekFrom::Data(at)) {
            Ok(begin) => begin,
            // Nothing but a hole from here on.
            Err(rustix::io::Errno::NXIO) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(&source, SeekFrom::Hole(begin))?;
        let (mut read_at, mut write_at) = (begin, begin);
        while read_at < end {
            let left = usize::try_from(end - read_at).unwrap_or(1 << 30);
            if rustix::fs::copy_file_range(&source, Some(&mut read_at), &target, Some(&mut write_at), left)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        at = end;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::*;

    #[test]
    fn a_copy_has_the_same_bytes_and_the_same_holes() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let file = File::create(&from).unwrap();
        file.set_len(64 << 20).unwrap();
        file.write_all_at(b"begin", 0).unwrap();
        file.write_all_at(b"middle", 33 << 20).unwrap();
        copy_sparse(&from, &to).unwrap();
        assert_eq!(fs::read(&from).unwrap(), fs::read(&to).unwrap());
        assert!(fs::metadata(&to).unwrap().blocks() * 512 < 1 << 20, "holes stay holes");
    }
}
