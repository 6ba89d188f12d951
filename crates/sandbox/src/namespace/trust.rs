//! What the tools inside trust: files with the machine's authorities and the environment's own.
//!
//! It owns their forms: one file of all certificates, a name by hash for OpenSSL's look into a folder, a store for Java, and what browsers
//! are told by their machine's owner. It refuses
//! a certificate that is none, and everything beside it, a key above all. The machine's own files are only read.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use sha1_checked::{Digest, Sha1};

use super::der;
use crate::launch::{BUNDLE_FILE, BUNDLES, CA_FILE, JAVA_STORES};

/// The longest certificate that is taken, in bytes.
const MAX_CERTIFICATE: usize = 64 * 1024;
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";
/// Java's own password for what needs none; what is stored under it is public.
const JAVA_PASSWORD: &str = "changeit";

/// Firefox takes the names of files.
const FIREFOX_POLICY: &str = "{\"policies\":{\"Certificates\":{\"Install\":[\"/etc/stockade/ca.pem\"]}}}\n";

/// An environment's own authority, as far as its certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    der: Vec<u8>,
}

impl Authority {
    /// Reads a text that holds one certificate and nothing secret.
    pub fn read(text: &str) -> Result<Self, &'static str> {
        if text.len() > MAX_CERTIFICATE {
            return Err("its certificate is longer than 64 KiB");
        }
        if text.contains("PRIVATE KEY") {
            return Err("a private key is with its certificate: that must never be inside");
        }
        let mut found = certificates(text);
        let first = found.next().ok_or("its certificate is none: one in PEM is wanted")?;
        if found.next().is_some() {
            return Err("there is more than one certificate: the one of its own authority is wanted");
        }
        if der::element(&first).is_none_or(|(element, rest)| element.tag != der::SEQUENCE || !rest.is_empty()) {
            return Err("its certificate is damaged");
        }
        Ok(Self { der: first })
    }

    /// The certificate alone, as text.
    pub fn pem(&self) -> String {
        let text = STANDARD.encode(&self.der);
        let mut pem = String::with_capacity(text.len() + text.len() / 64 + 64);
        pem.push_str(BEGIN);
        pem.push('\n');
        for line in text.as_bytes().chunks(64) {
            pem.push_str(&String::from_utf8_lossy(line));
            pem.push('\n');
        }
        pem.push_str(END);
        pem.push('\n');
        pem
    }
}

/// The certificates of a text; what is none is passed over.
fn certificates(text: &str) -> impl Iterator<Item = Vec<u8>> {
    text.split(BEGIN).skip(1).filter_map(|part| {
        let (body, _) = part.split_once(END)?;
        let body: Vec<u8> = body.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        STANDARD.decode(body).ok()
    })
}

/// What the machine trusts, in the forms that are wanted.
#[derive(Debug)]
struct Machine {
    /// Where from, as it was then.
    from: Option<(PathBuf, SystemTime, u64)>,
    bundle: Vec<u8>,
    /// A Java store of them, but for its end, and the digest so far; nothing if the machine keeps none.
    java: Option<(Vec<u8>, Sha1)>,
}

/// Read once, as long as the file stays the same.
static MACHINE: Mutex<Option<Arc<Machine>>> = Mutex::new(None);

impl Machine {
    fn now() -> io::Result<Arc<Self>> {
        let from = BUNDLES.iter().find_map(|path| {
            let facts = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
            Some((PathBuf::from(path), facts.modified().ok()?, facts.len()))
        });
        let mut known = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.as_ref().filter(|known| known.from == from) {
            return Ok(Arc::clone(known));
        }
        let bundle = from.as_ref().map(|(path, ..)| fs::read(path)).transpose()?.unwrap_or_default();
        let java = JAVA_STORES.iter().any(|path| Path::new(path).exists()).then(|| {
            let text = String::from_utf8_lossy(&bundle);
            java_begin(&certificates(&text).collect::<Vec<_>>())
        });
        let fresh = Arc::new(Self { from, bundle, java });
        *known = Some(Arc::clone(&fresh));
        Ok(fresh)
    }
}

/// Writes all forms below `folder`, which is not there yet: `own` for `/etc/stockade`, `certs` for above the machine's folder, `chromium` and
/// `firefox` for where those look.
pub fn write(folder: &Path, authority: &Authority) -> io::Result<()> {
    let machine = Machine::now()?;
    let pem = authority.pem();
    let (own, certs) = (folder.join("own"), folder.join("certs"));
    for path in [folder, &own, &certs] {
        make_folder(path)?;
    }
    let name = |path: &str| Path::new(path).file_name().map(PathBuf::from).unwrap_or_default();
    let (ca, bundle) = (own.join(name(CA_FILE)), own.join(name(BUNDLE_FILE)));
    put(&ca, &[pem.as_bytes()])?;
    let gap: &[u8] = if machine.bundle.last().is_none_or(|last| *last == b'\n') { b"" } else { b"\n" };
    put(&bundle, &[&machine.bundle, gap, pem.as_bytes()])?;
    fs::hard_link(&bundle, certs.join("ca-certificates.crt"))?;
    fs::hard_link(&ca, certs.join("stockade.pem"))?;
    if let Some(hash) = der::subject(&authority.der).and_then(name_hash) {
        // Another of the same hash is found under `.0`; who looks goes on to the next number until there is none.
        let taken = |number: &u32| Path::new("/etc/ssl/certs").join(format!("{hash:08x}.{number}")).exists();
        let number = (0..16).find(|number| !taken(number)).unwrap_or(16);
        fs::hard_link(&ca, certs.join(format!("{hash:08x}.{number}")))?;
    }
    let (chromium, firefox) = (folder.join("chromium"), folder.join("firefox"));
    make_folder(&chromium)?;
    put(&chromium.join("stockade.json"), &[chromium_policy(authority).as_bytes()])?;
    make_folder(&firefox)?;
    put(&firefox.join("policies.json"), &[FIREFOX_POLICY.as_bytes()])?;
    if let Some((begin, digest)) = &machine.java {
        make_folder(&certs.join("java"))?;
        let entry = java_entry("stockade", &authority.der);
        let digest = digest.clone().chain_update(&entry).finalize();
        put(&certs.join("java/cacerts"), &[begin, &entry, &digest])?;
    }
    Ok(())
}

/// Beside what the browser trusts by itself. Its own policies are of no concern inside: the environment's way out decides.
fn chromium_policy(authority: &Authority) -> String {
    format!("{{\"CACertificates\":[\"{}\"]}}\n", STANDARD.encode(&authority.der))
}

/// Whoever is inside reads it, whatever this process's mask is.
fn make_folder(path: &Path) -> io::Result<()> {
    fs::create_dir(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

fn put(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let mut file = fs::File::create_new(path)?;
    parts.iter().try_for_each(|part| file.write_all(part))?;
    file.set_permissions(fs::Permissions::from_mode(0o644))
}

/// The beginning of a store in Java's old form (JKS), which every Java reads, with or without its password: these certificates and room
/// in the count for one more. And the digest that ends it, so far.
fn java_begin(certificates: &[Vec<u8>]) -> (Vec<u8>, Sha1) {
    const MAGIC: u32 = 0xFEED_FEED;
    const VERSION: u32 = 2;
    let mut store = Vec::new();
    let count = u32::try_from(certificates.len()).unwrap_or(0).saturating_add(1);
    for number in [MAGIC, VERSION, count] {
        store.extend(number.to_be_bytes());
    }
    for (number, der) in certificates.iter().enumerate() {
        store.extend(java_entry(&format!("machine-{number}"), der));
    }
    let mut digest = Sha1::new();
    for unit in JAVA_PASSWORD.encode_utf16() {
        digest.update(unit.to_be_bytes());
    }
    digest.update(b"Mighty Aphrodite");
    digest.update(&store);
    (store, digest)
}

/// A certificate that is trusted.
fn java_entry(alias: &str, der: &[u8]) -> Vec<u8> {
    const TRUSTED: u32 = 2;
    let mut entry = Vec::with_capacity(der.len() + 64);
    let text = |entry: &mut Vec<u8>, text: &str| {
        entry.extend(u16::try_from(text.len()).unwrap_or(0).to_be_bytes());
        entry.extend(text.as_bytes());
    };
    entry.extend(TRUSTED.to_be_bytes());
    text(&mut entry, alias);
    // When it was put in: nobody asks.
    entry.extend(0_u64.to_be_bytes());
    text(&mut entry, "X.509");
    entry.extend(u32::try_from(der.len()).unwrap_or(0).to_be_bytes());
    entry.extend(der);
    entry
}

/// The number by which OpenSSL finds a certificate in a folder: of its subject's name, in small letters and single spaces.
fn name_hash(subject: &[u8]) -> Option<u32> {
    let digest: [u8; 20] = Sha1::digest(der::canonical_name(subject)?).into();
    let [a, b, c, d, ..] = digest;
    Some(u32::from_le_bytes([a, b, c, d]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Of `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -subj '/O=An  Example/CN=Its Own CA'`.
    const EXAMPLE: &str = include_str!("trust_example.pem");

    #[test]
    fn one_certificate_is_taken_and_nothing_else() {
        let authority = Authority::read(EXAMPLE).unwrap();
        assert_eq!(Authority::read(&authority.pem()), Ok(authority.clone()));
        let noisy = format!("a note\n{EXAMPLE}\nanother");
        assert_eq!(Authority::read(&noisy), Ok(authority));
        assert!(Authority::read("").unwrap_err().contains("none"));
        assert!(Authority::read(&format!("{EXAMPLE}{EXAMPLE}")).unwrap_err().contains("more than one"));
        assert!(Authority::read(&format!("{EXAMPLE}-----BEGIN PRIVATE KEY-----")).unwrap_err().contains("key"));
        assert!(Authority::read(&" ".repeat(MAX_CERTIFICATE + 1)).unwrap_err().contains("64 KiB"));
        assert!(Authority::read(&EXAMPLE.replacen("MII", "MIJ", 1)).is_err());
    }

    #[test]
    fn its_name_has_the_hash_that_openssl_gives_it() {
        let authority = Authority::read(EXAMPLE).unwrap();
        // `openssl x509 -noout -hash`
        let wanted = include_str!("trust_example.hash").trim();
        assert_eq!(der::subject(&authority.der).and_then(name_hash).map(|hash| format!("{hash:08x}")).unwrap(), wanted);
    }

    #[test]
    fn browsers_are_told_of_it_and_of_nothing_else() {
        let authority = Authority::read(EXAMPLE).unwrap();
        let told: serde_json::Value = serde_json::from_str(&chromium_policy(&authority)).unwrap();
        assert_eq!(told, serde_json::json!({ "CACertificates": [STANDARD.encode(&authority.der)] }));
        let told: serde_json::Value = serde_json::from_str(FIREFOX_POLICY).unwrap();
        assert_eq!(told, serde_json::json!({ "policies": { "Certificates": { "Install": [CA_FILE] } } }));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_fall(text in "\\PC{0,200}", bytes: Vec<u8>, at in 0usize..600, byte: u8) {
            let _ = Authority::read(&text);
            let _ = Authority::read(&format!("{BEGIN}\n{}\n{END}", STANDARD.encode(&bytes)));
            let mut der = Authority::read(EXAMPLE).unwrap().der;
            if let Some(place) = der.get_mut(at) {
                *place = byte;
            }
            let _ = der::subject(&der).and_then(name_hash);
        }
    }
}
