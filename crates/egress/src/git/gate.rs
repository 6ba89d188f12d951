//! Which requests of an inspected connection are git's, and of which repository.
//!
//! It owns the border between `git.fetch` and `git.push` and every other request: the smart protocol over HTTP is git's, and is decided by
//! repository. What else a forge serves is an ordinary request: its pages and API, large file storage, and the files of the dumb protocol for
//! who reads them. It refuses what two servers would read differently, pushes by the dumb protocol (WebDAV), and archives.

use http::{HeaderMap, Method, header};

use super::path::{self, PathError, Repository, Service, Step};
use crate::request::Wanted;

/// A request of the smart protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitRequest {
    /// The repository as the resource of a deed: `forge.example/team/app`. The port is a circumstance.
    pub id: String,
    /// Its path.
    pub repository: Repository,
    /// Fetching or pushing.
    pub service: Service,
    /// What it carries.
    pub step: Step,
    /// The path as it was asked for, up to the repository: `/team/app.git`.
    pub base: String,
}

/// What a request means to git; `None` when it is an ordinary one.
///
/// # Errors
/// When it is git's and must be refused. The text is for the client.
pub fn recognise(wanted: &Wanted, headers: &HeaderMap) -> Result<Option<GitRequest>, PathError> {
    let (path, query) = match wanted.raw_target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (wanted.raw_target.as_str(), None),
    };
    let method = wanted.method.as_str();
    if path::is_dumb_push(method, path) {
        return Err(PathError::Dumb(super::shown(path.as_bytes())));
    }
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    // A second one, or one that is no text, is git's type for nobody, and may be for somebody.
    let said = match (types.next(), types.next()) {
        (None, _) => None,
        (Some(only), None) => Some(only.to_str().unwrap_or("?")),
        (Some(_), Some(_)) => Some("more than one Content-Type"),
    };
    let asked = match path::http(method, path, query, said) {
        Ok(Some(asked)) => asked,
        Ok(None) => return Ok(None),
        // What says of itself that it is git's is no plain request, wherever it goes.
        Err(PathError::Dumb(_) | PathError::LargeFiles(_))
            if !said.is_some_and(path::says_git) && path::is_plain(method, path, query) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let tail = match asked.step {
        Step::Advertisement => "/info/refs".len(),
        Step::Rpc | Step::Stream => 1 + asked.service.as_str().len(),
    };
    let base = path.get(..path.len().saturating_sub(tail)).unwrap_or_default().to_owned();
    let id = format!("{}/{}", wanted.host, asked.repository.name());
    Ok(Some(GitRequest { id, repository: asked.repository, service: asked.service, step: asked.step, base }))
}

/// The protocol's version that a client asks for: the highest that `Git-Protocol` names, as git's servers read it (gitprotocol-http,
/// "Extra Parameters"). `None` when the header has two readings.
#[must_use]
pub fn version(headers: &HeaderMap) -> Option<u8> {
    let mut all = headers.get_all("git-protocol").iter();
    let (Some(only), None) = (all.next(), all.next()) else {
        return if headers.contains_key("git-protocol") { None } else { Some(0) };
    };
    let mut version = 0;
    for word in only.to_str().ok()?.split(':') {
        version = version.max(match word.strip_prefix("version=") {
            Some("0") => 0,
            Some("1") => 1,
            Some("2") => 2,
            // What a server makes of another version, or of another word, nobody knows.
            _ => return None,
        });
    }
    Some(version)
}

impl GitRequest {
    /// With which method it came.
    #[must_use]
    pub const fn method(&self) -> Method {
        match self.step {
            Step::Advertisement => Method::GET,
            Step::Rpc | Step::Stream => Method::POST,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::path::NormalPath;

    fn wanted(method: &str, target: &str, port: u16) -> Wanted {
        Wanted {
            host: "forge.example".to_owned(),
            port,
            tls: true,
            method: method.parse().expect("a method"),
            path: NormalPath::read(target.split('?').next().unwrap_or_default()),
            raw_target: target.to_owned(),
            upgrade: None,
        }
    }

    fn typed(kind: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_TYPE, kind.parse().expect("a value"))])
    }

    fn seen(method: &str, target: &str) -> Result<Option<GitRequest>, PathError> {
        recognise(&wanted(method, target, 443), &HeaderMap::new())
    }

    #[test]
    fn a_repository_has_one_name() {
        let asked = seen("GET", "/team/app.git/info/refs?service=git-upload-pack").expect("reads").expect("git's");
        assert_eq!((asked.id.as_str(), asked.base.as_str()), ("forge.example/team/app", "/team/app.git"));
        assert_eq!(
            (asked.service, asked.step, asked.method()),
            (Service::UploadPack, Step::Advertisement, Method::GET)
        );
        let kind = typed(Service::ReceivePack.request_type());
        let asked =
            recognise(&wanted("POST", "/team/app/git-receive-pack", 8443), &kind).expect("reads").expect("git's");
        assert_eq!((asked.id.as_str(), asked.base.as_str()), ("forge.example/team/app", "/team/app"));
        assert_eq!((asked.service, asked.step), (Service::ReceivePack, Step::Rpc));
    }

    #[test]
    fn pages_large_files_and_the_files_of_the_dumb_protocol_are_ordinary_requests() {
        for (method, target) in [
            ("GET", "/team/app/pulls?page=2"),
            ("POST", "/api/v1/repos/team/app/merges"),
            ("PATCH", "/repos/team/app/git/refs/heads/main"),
            ("GET", "/team/app.git/info/refs"),
            ("GET", "/team/app.git/HEAD"),
            ("HEAD", "/team/app/objects/info/packs"),
            ("POST", "/team/app.git/info/lfs/objects/batch"),
            ("PUT", "/team/app.git/info/lfs/objects/0123"),
            ("POST", "/team/app.git/info/lfs/locks"),
            ("GET", "/team/app/archive/main.tar.gz"),
        ] {
            assert_eq!(seen(method, target), Ok(None), "{method} {target}");
        }
    }

    #[test]
    fn n28_pushes_by_the_dumb_protocol_and_odd_spellings_are_refused() {
        for (method, target) in [
            ("PROPFIND", "/team/app.git/info/refs"),
            ("LOCK", "/team/app.git/refs/heads/main"),
            ("PUT", "/team/app.git/refs/heads/main"),
            ("MKCOL", "/team/app.git/objects/ab/"),
            ("PUT", "/team/app.git/objects/ab/0123456789012345678901234567890123456_x"),
            ("MOVE", "/team/app.git/objects/ab/x"),
            ("PUT", "/team/app%2egit/refs/heads/main"),
            ("DELETE", "/team/app.GIT/refs/heads/main"),
            ("GET", "/team/app/info/refs;x?service=git-upload-pack"),
            ("GET", "/team/app/info/refs?service=git-upload-pack&x=1"),
            ("GET", "/team/app/INFO/refs?service=git-receive-pack"),
            ("GET", "/team/%61pp/info/refs?service=git-upload-pack"),
            ("GET", "/team//app/info/refs?service=git-upload-pack"),
            ("GET", "/team/x/../app/info/refs?service=git-upload-pack"),
            ("POST", "/team/app/info/refs?service=git-upload-pack"),
            ("GET", "/team/app/git-receive-pack"),
            ("POST", "/team/app/git-receive-pack"),
            ("POST", "/team/app/git-receive-pack/"),
            ("POST", "/team/app/info/lfs/x/../../git-receive-pack/"),
            ("POST", "/team/app/info/lfs/git-receive-pack;x"),
            ("POST", "/team/app.git/git-upload-archive"),
            ("GET", "/team/app/info/refs?service=git-upload-archive"),
        ] {
            assert!(seen(method, target).is_err(), "{method} {target}");
        }
        // Git's own type at another place, and git's place with another type or with two.
        let kind = typed(Service::ReceivePack.request_type());
        for target in ["/team/app/push", "/team/app/info/lfs/objects/batch", "/info/lfs/x?/app.git/git-receive-pack"] {
            assert!(recognise(&wanted("POST", target, 443), &kind).is_err(), "{target}");
        }
        let mut two = typed(Service::ReceivePack.request_type());
        two.append(header::CONTENT_TYPE, "text/plain".parse().expect("a value"));
        assert!(recognise(&wanted("POST", "/team/app/git-receive-pack", 443), &two).is_err());
    }

    #[test]
    fn the_version_is_the_highest_and_has_one_reading() {
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("git-protocol", value.parse().expect("a value"));
            }
            version(&headers)
        };
        assert_eq!((of(&[]), of(&["version=2"]), of(&["version=1:version=2"])), (Some(0), Some(2), Some(2)));
        for odd in [&["version=3"][..], &["version=2", "version=1"], &["x"], &[""], &["version=2:x=1"]] {
            assert_eq!(of(odd), None, "{odd:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_recognised_has_a_plain_name(path in "/[a-c./%;A2eE-]{0,24}", tail in "(/info/refs\\?service=git-upload-pack|/git-receive-pack|)") {
            let kind = typed(Service::ReceivePack.request_type());
            let method = if tail.contains('?') { "GET" } else { "POST" };
            if let Ok(Some(asked)) = recognise(&wanted(method, &format!("{path}{tail}"), 443), &kind) {
                prop_assert!(asked.id.split('/').all(|part| !part.is_empty() && part != ".." && part != "."));
                prop_assert!(!asked.id.contains('%') && path.starts_with(&asked.base));
            }
        }
    }
}
