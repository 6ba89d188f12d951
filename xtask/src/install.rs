//! Installing what the tests need from the machine's own packages.

use std::process::Command;

use anyhow::{Result, bail};

use crate::sh;

/// What must be there: a file or a program that shows it, and Debian's package.
const NEEDED: &[(&str, &str)] = &[
    ("git", "git"),
    ("python3", "python3"),
    ("node", "nodejs"),
    ("npm", "npm"),
    ("pip3", "python3-pip"),
    ("setpriv", "util-linux"),
    ("mkfs.ext4", "e2fsprogs"),
    ("perl", "perl"),
    ("openssl", "openssl"),
    ("curl", "curl"),
    // What works inside environments, in the tests of real work.
    ("/usr/lib/python3/dist-packages/pip", "python3-pip"),
    ("cc", "gcc"),
    ("chromium", "chromium"),
    ("dpkg-deb", "dpkg"),
    ("go", "golang-go"),
    ("ip", "iproute2"),
    ("tinyproxy", "tinyproxy-bin"),
    ("javac", "default-jdk-headless"),
    ("wget", "wget"),
];

/// Makes sure that everything is there, or says exactly what is missing.
pub fn ensure() -> Result<()> {
    let mut missing: Vec<&str> =
        NEEDED.iter().filter(|(program, _)| !found(program)).map(|(_, package)| *package).collect();
    if !std::path::Path::new("/usr/lib/postgresql").is_dir() {
        missing.push("postgresql");
    }
    if missing.is_empty() {
        return Ok(());
    }
    sh::say(&format!("installing {}", missing.join(", ")));
    if !sh::has("apt-get") {
        bail!("the tests need {}: install them and try again", missing.join(", "));
    }
    apt(&["update", "-qq"])?;
    let mut install = vec!["install", "-y", "-qq", "--no-install-recommends"];
    install.extend(&missing);
    apt(&install)
}

fn found(program: &str) -> bool {
    // A path is one whatever it is joined to.
    sh::has(program)
        || std::path::Path::new(program).is_dir()
        || ["/usr/sbin", "/sbin"].iter().any(|folder| std::path::Path::new(folder).join(program).is_file())
}

fn apt(args: &[&str]) -> Result<()> {
    let mut command = if sh::has("sudo") && std::env::var("USER").is_ok_and(|user| user != "root") {
        let mut sudo = Command::new("sudo");
        sudo.arg("apt-get");
        sudo
    } else {
        Command::new("apt-get")
    };
    sh::run(command.args(args).env("DEBIAN_FRONTEND", "noninteractive"))
}
